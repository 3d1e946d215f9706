/** FORMAT.md "Compression". */

import { InvError, need } from "../errors";

/**
 * The contents of one whole zlib stream, which fills the data.
 *
 * @throws InvError damaged; limit: more than `limit` bytes, of which no more are decompressed
 */
export async function decompress(data: Uint8Array<ArrayBuffer>, what: string, limit: number): Promise<Uint8Array> {
  const reader = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      need(size <= limit, "limit", `${what}: more than ${limit} bytes when decompressed`);
      chunks.push(value);
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    if (error instanceof InvError) throw error;
    throw new InvError("damaged", `${what}: not one whole zlib stream`);
  }
  const result = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    result.set(chunk, at);
    at += chunk.length;
  }
  return result;
}
