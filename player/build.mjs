// Builds the package (dist/), what `invcodec export` takes (../invcodec/player/) and the tests (build/).
import { cpSync, globSync, rmSync } from "node:fs";
import { build } from "esbuild";

const PACKAGED = "../invcodec/player";

/** `import source from "worker:../worker/worker"`: the text of a module with all it imports, to start a worker from. */
const workers = {
  name: "workers",
  setup(build_) {
    build_.onResolve({ filter: /^worker:/ }, async ({ path, resolveDir, kind }) => {
      const found = await build_.resolve(path.slice("worker:".length), { resolveDir, kind });
      return { ...found, namespace: "worker" };
    });
    build_.onLoad({ filter: /.*/, namespace: "worker" }, async ({ path }) => {
      const result = await build({ ...options, entryPoints: [path], format: "iife", write: false, metafile: true });
      return { contents: result.outputFiles[0].text, loader: "text", watchFiles: Object.keys(result.metafile.inputs) };
    });
  },
};

const options = {
  bundle: true,
  format: "esm",
  target: "es2023",
  minify: true,
  legalComments: "none",
  logLevel: "warning",
  plugins: [workers],
};

for (const folder of ["dist", "build", PACKAGED]) rmSync(folder, { recursive: true, force: true });
await build({
  ...options,
  entryPoints: { index: "src/index.ts", "inv-player": "src/page/page.ts" },
  outdir: "dist",
});
cpSync("src/page/index.html", "dist/index.html");
await build({
  ...options,
  entryPoints: globSync("test/*.ts"),
  outdir: "build",
  minify: false,
  external: ["node:*"],
});
cpSync("dist", PACKAGED, { recursive: true });
