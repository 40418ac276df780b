// What each layer of an image changes, and what of it is waste. The tables are in a worker, so each answer is awaited.

import { Client } from "./client";
import type { Analysis, Child, Match } from "./protocol";

export type { Analysis, Child, Match, State } from "./protocol";

/**
 * Analyses an image. For each of its layers, the lowest first, there are the pages of its table of contents, as
 * `/v2/<name>/_strata/layers/<digest>` answers them.
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

/** Directories are percent-encoded paths: "" is the root. */
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

  /** What is in a directory of the image, and what was, in the order of names. */
  children(directory: string): Promise<Child[]> {
    return this.#client.call("children", [directory]);
  }

  /** What a layer has in a directory, and what it takes away there. */
  layerChildren(layer: number, directory: string): Promise<Child[]> {
    return this.#client.call("layerChildren", [layer, directory]);
  }

  /** The paths of which a name has the text in it, whether in capital letters or not; a text with a slash is looked for in the path. */
  search(text: string, limit: number): Promise<Match[]> {
    return this.#client.call("search", [text, limit]);
  }

  /** Gives the memory back. Of a layer from disk, this closes the layer as well. */
  free(): void {
    this.#client.close();
  }
}
