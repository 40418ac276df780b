// The highlighter as a chunk of its own, which is fetched when it is first needed.

export { createLowlight } from "lowlight";
