import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  // The package's worker is a module and fetches its .wasm beside itself.
  worker: { format: "es" },
  // Vite's bundling of dependencies for `vite dev` would tear the worker from its files.
  optimizeDeps: { exclude: ["mrcnn-web"] },
});
