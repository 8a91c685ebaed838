// The f32 tensors of a safetensors file as arrays of numbers.
export function tensors(file) {
  const header = Number(file.readBigUInt64LE(0));
  const entries = Object.entries(JSON.parse(file.toString('utf8', 8, 8 + header)));
  return Object.fromEntries(entries.filter(([name]) => name !== '__metadata__').map(([name, { dtype, data_offsets: [from, to] }]) => {
    if (dtype !== 'F32') throw new Error(`${name} is ${dtype}`);
    return [name, Array.from({ length: (to - from) / 4 }, (_, i) => file.readFloatLE(8 + header + from + i * 4))];
  }));
}
