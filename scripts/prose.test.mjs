// The check of prose finds each problem.

import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { comments, links, sentences } from "./prose.mjs";

describe("prose", () => {
  it("has comments of 100 columns at most, tables and addresses apart", () => {
    const wide = `// ${"a".repeat(98)}`;
    assert.deepEqual(comments(`let a = 1;\n${wide}\n${wide.slice(1)}`, "rs"), ["2: comment of more than 100 columns"]);
    assert.deepEqual(comments(`//! | ${"a".repeat(98)}\n/// https://example.com/${"a".repeat(98)}`, "rs"), []);
    for (const [line, extension] of [
      [" * ", "ts"],
      ["  /* ", "css"],
      ["# ", "toml"],
    ]) {
      assert.equal(comments(`${line}${"a".repeat(99)}`, extension).length, 1, extension);
    }
  });

  it("has comments whose clauses have nouns", () => {
    for (const bad of ["What is warm expires.", "Deletes it, for who asks twice.", "The key of what was stored."]) {
      assert.equal(comments(`/// ${bad}`, "rs").length, 1, bad);
      assert.equal(sentences(bad).length, 1, bad);
    }
    for (const good of ["Warm values expire.", "What a push needs.", "The client that asks."]) {
      assert.deepEqual(comments(`/// ${good}`, "rs"), [], good);
      assert.deepEqual(sentences(good), [], good);
    }
  });

  it("has one sentence a line, code and tables apart", () => {
    assert.deepEqual(sentences("One. Two.\nOne.\nTwo."), ["1: more than one sentence"]);
    assert.deepEqual(sentences("**One.** `two` is code."), ["1: more than one sentence"]);
    assert.deepEqual(sentences("1. One.\n   Two."), []);
    assert.deepEqual(sentences("| One. Two. |\n```\nOne. Two.\n```\nSee `a. B`, v1.1.1, and (One. Two)."), []);
  });

  it("has links that lead to files and headings", () => {
    const files = { "docs/a.md": "# One\n## The `key` tree", "README.md": "" };
    const check = (text) => links("docs/b.md", text, (file) => files[file]);
    assert.deepEqual(check("[a](a.md), [b](a.md#the-key-tree), [c](../README.md), [d](https://example.com)"), []);
    assert.deepEqual(check("[a](c.md)\n| [b](a.md#two) |"), [
      "1: no file docs/c.md",
      "2: no heading #two in docs/a.md",
    ]);
  });
});
