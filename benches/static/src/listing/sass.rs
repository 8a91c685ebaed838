//! NVIDIA's assembly as nvdisasm prints it: `.L_x_1:` begins a block, then an instruction a line, as
//! `/*0010*/ @!P0 BRA `(.L_x_3) ;`.

use super::{Block, Class};

pub fn blocks(text: &str) -> Vec<Block> {
    // names and instructions of runs: a label begins one, and so does what follows a jump
    let mut runs: Vec<(Option<&str>, Vec<&str>)> = vec![(None, Vec::new())];
    let mut jumped = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(':').filter(|name| name.starts_with(".L_")) {
            runs.push((Some(name), Vec::new()));
            jumped = false;
        } else if let Some((_, code)) = line.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
            let code = code.split(';').next().unwrap_or_default().trim();
            if jumped {
                runs.push((None, Vec::new()));
            }
            if let Some((_, body)) = runs.last_mut() {
                body.push(code);
            }
            jumped = is_jump(code);
        }
    }
    let place = |name: &str| runs.iter().position(|(known, _)| *known == Some(name));
    let block = |(at, (_, body)): (usize, &(Option<&str>, Vec<&str>))| {
        let last = body.last().copied().unwrap_or_default();
        let target = last.split_once("`(").and_then(|(_, rest)| place(rest.split(')').next()?));
        let mut next: Vec<usize> = target.filter(|_| is_jump(last)).into_iter().collect();
        let leaves = is_jump(last) && !last.starts_with('@') && !last.contains("BRA.DIV");
        if !leaves && at + 1 < runs.len() {
            next.push(at + 1);
        }
        Block { instructions: body.iter().filter_map(|code| class(code)).collect(), next }
    };
    runs.iter().enumerate().map(block).collect()
}

/// The operation of an instruction, without the predicate.
fn operation(code: &str) -> &str {
    code.split_whitespace().find(|word| !word.starts_with('@')).unwrap_or_default()
}

fn is_jump(code: &str) -> bool {
    let name = operation(code).split('.').next().unwrap_or_default();
    ["BRA", "EXIT", "RET", "BRX", "JMP"].contains(&name)
}

/// `None` for what fills the last words.
fn class(code: &str) -> Option<Class> {
    let name = operation(code);
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    Some(match name {
        "" | "NOP" => return None,
        _ if starts(&["HMMA", "HGMMA", "IMMA"]) => Class::Matrix,
        _ if starts(&["FFMA", "HFMA2", "DFMA"]) => Class::Fma,
        _ if starts(&["MUFU"]) => Class::Special,
        _ if starts(&[
            "FADD", "FMUL", "FMNMX", "FSET", "FCHK", "HADD2", "HMUL2", "HMNMX2", "HSET", "F2", "I2F", "FRND",
        ]) =>
        {
            Class::Float
        }
        _ if starts(&["IMAD.MOV", "MOV", "PRMT", "S2R", "CS2R", "R2UR", "R2P", "P2R"]) => Class::Move,
        _ if starts(&["SHFL", "REDUX", "VOTE", "MATCH"]) => Class::Lane,
        _ if starts(&["LDS", "STS", "LDSM"]) => Class::Shared,
        _ if starts(&["LDL", "STL"]) => Class::Local,
        _ if starts(&["LDC", "LDCU", "U", "S2UR"]) => Class::Scalar,
        _ if starts(&["LD", "ST", "ATOM", "RED"]) => Class::Buffer,
        _ if starts(&["BAR"]) => Class::Barrier,
        _ if starts(&["BRA", "BSSY", "BSYNC", "BREAK", "BMOV", "EXIT", "WARPSYNC", "CALL", "RET", "JMP", "BRX"]) => {
            Class::Branch
        }
        _ if starts(&[
            "IMAD", "IADD", "LOP", "SHF", "IABS", "IMNMX", "VIMNMX", "VIADD", "POPC", "FLO", "LEA", "BMSK", "SGXT",
            "IMUL", "ISETP", "PSETP", "PLOP3", "SEL", "FSEL", "IDP", "BREV", "ISCADD",
        ]) =>
        {
            Class::Integer
        }
        _ => Class::Other,
    })
}
