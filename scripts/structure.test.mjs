// Each rule of structure.mjs finds the problem that it is for.

import assert from "node:assert/strict";
import { test } from "node:test";

import { check, paths } from "./structure.mjs";

const found = (files) => check(new Map(Object.entries(files)));
const lines = (count, line) => Array(count).fill(line).join("\n");

test("a function of 81 lines is too long, and braces in strings and comments do not count", () => {
  const body = (count) => `fn walk() {\n${lines(count, 'let brace = "{"; // {')}\n}`;
  assert.deepEqual(found({ "src/a.rs": body(78) }), []);
  assert.match(found({ "src/a.rs": body(79) }).join(), /the function walk has 81 lines/);
});

test("a file of 401 lines of code is too large, tests and comments apart", () => {
  const code = lines(400, "const A: u8 = 1;");
  assert.deepEqual(found({ "src/a.rs": `// A comment.\n${code}\n#[cfg(test)]\nmod tests {\n${code}\n}` }), []);
  assert.match(found({ "src/a.rs": `${code}\nconst B: u8 = 1;` }).join(), /401 lines of code/);
});

test("modules that import each other are a circle, by use or by path, through a parent as well", () => {
  const circle = /import each other in a circle: src\/a\.rs, src\/a\/b\.rs/;
  assert.match(found({ "src/a.rs": "use crate::a::b::B;", "src/a/b.rs": "use super::A;" }).join(), circle);
  assert.match(
    found({
      "src/a.rs": "use crate::{c::C, a::{b::B}};",
      "src/a/b.rs": "fn f(_: crate::a::A) {}",
      "src/c.rs": "",
    }).join(),
    circle,
  );
  assert.deepEqual(found({ "src/a.rs": "mod b;", "src/a/b.rs": "use crate::a::A;" }), []);
  assert.match(
    found({ "www/app/a.tsx": 'import { b } from "./b";', "www/app/b.tsx": 'import type { A } from "./a";' }).join(),
    /circle/,
  );
  assert.match(
    found({ "scripts/a.mjs": 'import "./b.mjs";', "scripts/b.mjs": 'const { a } = await import("./a.mjs");' }).join(),
    /circle/,
  );
  assert.match(
    found({
      "scripts/a.mjs": 'import {\n  b,\n} from "./b.mjs";',
      "scripts/b.mjs": 'await import(\n  "./a.mjs"\n);',
    }).join(),
    /circle/,
  );
});

test("a key that is split by hand is found, except in the files that parse keys", () => {
  const code = 'let (name, tag) = key.split_once("/_tags/");';
  assert.match(found({ "src/registry/list.rs": code }).join(), /src\/registry\/list\.rs:1: a key is split by hand/);
  assert.deepEqual(found({ "src/store/key.rs": code }), []);
});

test("a list of two bounds of a platform is written once at most", () => {
  const code = "impl<S: Objects, H: Host> Retry<S, H> {}";
  assert.deepEqual(found({ "src/a.rs": code }), []);
  assert.match(found({ "src/a.rs": code, "src/b.rs": code }).join(), /use Platform: src\/a\.rs, src\/b\.rs/);
});

test("a service neither holds the registry nor lends its stores", () => {
  const service = (field) => ({
    "src/registry/list.rs": `struct Lists<P: Platform> {\n    ${field},\n    host: P::Host,\n}`,
  });
  assert.deepEqual(found(service("store: Bucket<P::Cold>")), []);
  assert.match(found(service("pub(super) store: Bucket<P::Cold>")).join(), /Lists lends its stores/);
  assert.match(found(service("registry: Rc<Registry<P>>")).join(), /Lists holds the registry/);
});

test("a use tree is read to its leaves", () => {
  const read = paths("crate::{a::{B, c::D as E}, f}").map((path) => path.join("::"));
  assert.deepEqual(read, ["crate::a::B", "crate::a::c::D", "crate::f"]);
});

test("a service names neither a request nor a response", () => {
  const names = (code) => found({ "src/registry/upload/chunk.rs": code }).join();
  assert.match(names("fn push(request: &mut Request<B>) {}"), /chunk\.rs:1: a service names a request/);
  assert.match(names("fn push() -> Answer<P> {}"), /a service names/);
  assert.equal(names("fn push(payload: Payload<'_, B>) -> Result<Upload, Error> {}"), "");
  assert.deepEqual(found({ "src/registry/dispatch.rs": "fn push(request: &mut Request<B>) {}" }), []);
  const describe = "fn describe(headers: &mut HeaderMap) {}";
  assert.match(names(describe), /a service names/);
  assert.match(names("fn progress() -> [(HeaderName, HeaderValue); 3] {}"), /a service names/);
  assert.deepEqual(found({ "src/registry/mirror/client.rs": describe }), []);
});
