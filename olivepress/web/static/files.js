// The page's own files, as bytes.
export const here = (name) => new URL(name, import.meta.url).href;

async function get(name) {
  const response = await fetch(here(name));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}
export const json = async (name) => (await get(name)).json();
export const bytes = async (name) => new Uint8Array(await (await get(name)).arrayBuffer());

export async function unpacked(name) {
  const found = await bytes(name);
  if (found[0] !== 0x1f || found[1] !== 0x8b) return found; // the server has unpacked it
  const stream = new Blob([found]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
