// The types of the package match its functions.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { DEMO } from "./setup.mjs";

test("a typed program that uses the package compiles", () => {
  const options = ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler",
    "--lib", "es2024,dom"];
  execFileSync(join(DEMO, "node_modules/.bin/tsc"), [...options, join(DEMO, "tests/types.ts")], { stdio: "inherit" });
});
