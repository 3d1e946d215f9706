/** The text of a module with all that it imports, to start a worker from; see build.mjs. */
declare module "worker:*" {
  const source: string;
  export default source;
}
