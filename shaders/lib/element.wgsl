// lib/element — reads elements as f32 from arrays of f32, or of f16 with two in a word. `is16` is the kernel's constant
// for the array: 1 if it holds f16. The array is declared as u32 or vec4<u32>, and the caller reads the word, because
// WGSL cannot pass a pointer to a storage buffer.
fn floats(words: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}
// Element i, from `word`, which is word i >> is16 of the array.
fn element(word: u32, i: u32, is16: u32) -> f32 {
    if is16 == 1u { return unpack2x16float(word)[i & 1u]; }
    return bitcast<f32>(word);
}
// Quad i (elements 4i..4i+4), from `words`, which is vec4 i >> is16 of the array: one quad of f32, or two of f16.
fn element4(words: vec4<u32>, i: u32, is16: u32) -> vec4<f32> {
    if is16 == 1u { return floats(select(words.xy, words.zw, (i & 1u) == 1u)); }
    return bitcast<vec4<f32>>(words);
}
