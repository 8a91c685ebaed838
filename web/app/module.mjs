// The compiled module. It lies here compressed, because not every host compresses what it serves.

async function fetched() {
  const bytes = await (await fetch('rowscan/bindings/rowscan_web_bg.wasm.gzip')).arrayBuffer();
  const [first, second] = new Uint8Array(bytes);
  const packed = first === 0x1f && second === 0x8b; // else the host said what it is, and the browser has unpacked it
  const stream = new Blob([bytes]).stream();
  return new Response(packed ? stream.pipeThrough(new DecompressionStream('gzip')) : stream, { headers: { 'content-type': 'application/wasm' } });
}

export const wasm = fetched();
