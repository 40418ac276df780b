// What paints, apart from the page: it is fetched when there is something to paint.

export { createLowlight } from "lowlight";
