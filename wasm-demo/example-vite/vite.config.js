import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  // The worker of the package is a module and loads the .wasm file beside it.
  worker: { format: "es" },
  // With Vite's bundling of dependencies in `vite dev`, the worker would not find its files.
  optimizeDeps: { exclude: ["mrcnn-web"] },
});
