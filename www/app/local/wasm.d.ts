// The address of the module, as the bundler gives it.
declare module "*.wasm?url" {
  const address: string;
  export default address;
}
