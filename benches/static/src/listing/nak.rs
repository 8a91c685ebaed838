//! NVIDIA's assembly as Mesa's NAK prints it: `block 3 [2] {` begins a block and `} -> [4, 5]` ends it with the blocks
//! that may come next; between them is an instruction a line, `r0 = ffma r1 r2 r3 // …`.

use super::{Block, Class};

pub fn blocks(text: &str) -> Vec<Block> {
    let numbers =
        |list: &str| list.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect::<Vec<u32>>();
    let mut names: Vec<u32> = Vec::new();
    let mut found: Vec<(Vec<Class>, Vec<u32>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("block") {
            names.extend(numbers(line.split("[").next().unwrap_or_default()).first());
            found.push(Default::default());
        } else if let (Some(next), Some((_, after))) = (line.strip_prefix("} -> "), found.last_mut()) {
            *after = numbers(next);
        } else if let Some((instructions, _)) = found.last_mut() {
            instructions.extend(class(line.split("//").next().unwrap_or_default().trim()));
        }
    }
    let place = |name: &u32| names.iter().position(|known| known == name);
    let block = |(instructions, after): (Vec<Class>, Vec<u32>)| Block {
        instructions,
        next: after.iter().filter_map(place).collect(),
    };
    found.into_iter().map(block).collect()
}

/// `None` for lines that are no instruction.
fn class(line: &str) -> Option<Class> {
    let (result, code) = line.split_once(" = ").unwrap_or(("", line));
    let name = code.split_whitespace().find(|word| !word.starts_with('@'))?;
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let uniform = result.starts_with("ur") || result.starts_with("up");
    Some(match name {
        _ if starts(&["hmma", "imma"]) => Class::Matrix,
        _ if starts(&["ffma", "hfma2", "dfma"]) => Class::Fma,
        _ if starts(&["mufu"]) => Class::Special,
        _ if starts(&["fadd", "fmul", "fmnmx", "fset", "hadd2", "hmul2", "f2f", "f2i", "i2f", "frnd"]) => Class::Float,
        _ if uniform || starts(&["ldc"]) => Class::Scalar,
        _ if starts(&["mov", "prmt", "s2r", "cs2r", "r2ur", "swap", "par_copy", "copy"]) => Class::Move,
        _ if starts(&["shfl", "redux", "vote"]) => Class::Lane,
        _ if starts(&["ld.shared", "st.shared", "lds", "sts", "ldsm"]) => Class::Shared,
        _ if starts(&["ld.local", "st.local"]) => Class::Local,
        _ if starts(&["ld.", "st.", "ldg", "stg", "atom"]) => Class::Buffer,
        _ if starts(&["bar"]) => Class::Barrier,
        _ if starts(&["bra", "bssy", "bsync", "break", "exit", "warpsync", "brk"]) => Class::Branch,
        _ if starts(&[
            "imad", "iadd", "lop3", "shf", "ineg", "iabs", "imnmx", "popc", "flo", "lea", "bmsk", "sgxt", "imul",
            "isetp", "psetp", "plop3", "sel",
        ]) =>
        {
            Class::Integer
        }
        _ => Class::Other,
    })
}
