/** Where the bytes of a file come from. */

/** What was fetched so far. */
export interface Traffic {
  requests: number;
  bytes: number;
}

/** A file that can be read at any place. */
export interface Source {
  /** In bytes. */
  readonly size: number;
  readonly traffic: Traffic;
  /**
   * The bytes [from, to) of the file.
   *
   * @throws InvError network: they cannot be had
   */
  read(from: number, to: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** A file that is read from its beginning on, once. */
export interface Stream {
  readonly traffic: Traffic;
  pieces(): AsyncIterable<Uint8Array>;
}

export function isStream(source: Source | Stream): source is Stream {
  return "pieces" in source;
}

/** A file of the user's, or bytes that are part of a page. */
export class BlobSource implements Source {
  readonly traffic: Traffic = { requests: 0, bytes: 0 };

  constructor(private readonly blob: Blob) {}

  get size(): number {
    return this.blob.size;
  }

  async read(from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
    const data = new Uint8Array(await this.blob.slice(from, to).arrayBuffer());
    this.traffic.requests++;
    this.traffic.bytes += data.length;
    return data;
  }
}

const PIECE = 2 ** 20;

/** All of a file, from its beginning on. */
export async function* piecesOf(source: Source): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < source.size; at += PIECE) yield await source.read(at, Math.min(at + PIECE, source.size));
}
