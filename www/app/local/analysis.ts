// The changes and the waste of each layer of an image. A worker holds the tables, so each answer is
// a promise.

import { Client } from "./client";
import type { Analysis, Child, Match } from "./protocol";

export type { Analysis, Child, Match, State } from "./protocol";

/**
 * Analyses an image. `layers` has the pages of each layer's table of contents, the lowest layer
 * first, as `/v2/<name>/_strata/layers/<digest>` answers them.
 */
export async function analyse(
  layers: AsyncIterable<string>[],
  onLayer?: (done: number) => void,
  signal?: AbortSignal,
): Promise<Analyser> {
  signal?.throwIfAborted();
  const client = new Client();
  const abort = () => client.close();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    let done = 0;
    for (const pages of layers) {
      for await (const page of pages) await client.call("page", [page], { signal });
      await client.call("endLayer", [], { signal });
      onLayer?.(++done);
    }
    return await Analyser.of(client);
  } catch (error) {
    client.close();
    throw signal?.aborted ? signal.reason : error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** The analysis of an image. Directories are percent-encoded paths: "" is the root. */
export class Analyser {
  readonly #client: Client;

  private constructor(
    client: Client,
    readonly analysis: Analysis,
  ) {
    this.#client = client;
  }

  static async of(client: Client): Promise<Analyser> {
    return new Analyser(client, await client.call("analyse", []));
  }

  /**
   * Returns the entries of a directory of the image, removed ones included, in the order of names.
   */
  children(directory: string): Promise<Child[]> {
    return this.#client.call("children", [directory]);
  }

  /** Returns the entries that a layer has in a directory, and those that it removes there. */
  layerChildren(layer: number, directory: string): Promise<Child[]> {
    return this.#client.call("layerChildren", [layer, directory]);
  }

  /**
   * Searches names for a text, or whole paths if the text has a slash. Ignores the case of ASCII
   * letters.
   */
  search(text: string, limit: number): Promise<Match[]> {
    return this.#client.call("search", [text, limit]);
  }

  /** Frees the memory. For a layer from disk, this closes the layer as well. */
  free(): void {
    this.#client.close();
  }
}
