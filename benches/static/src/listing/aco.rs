//! AMD's assembly as Mesa's ACO prints it: `BB3:` begins a block, then an instruction a line, with its words after `;`.

use super::{Block, Class};

pub fn blocks(text: &str) -> Vec<Block> {
    let mut names = Vec::new();
    let mut bodies: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(':').filter(|name| name.starts_with("BB")) {
            names.push(name);
            bodies.push(Vec::new());
        } else if let Some(body) = bodies.last_mut() {
            let code = line.split(';').next().unwrap_or_default().trim();
            if code.starts_with(|c: char| c.is_ascii_lowercase()) && code.contains('_') {
                body.push(code);
            }
        }
    }
    let place = |name: &str| names.iter().position(|known| *known == name);
    let of = |(at, body): (usize, &Vec<&str>)| {
        let mnemonic = |code: &&str| code.split_whitespace().next().unwrap_or_default().to_owned();
        let jumps = body.iter().filter(|code| code.starts_with("s_branch") || code.starts_with("s_cbranch"));
        let mut next: Vec<usize> =
            jumps.flat_map(|code| code.split(|c: char| !c.is_alphanumeric())).filter_map(place).collect();
        let ends = body.iter().any(|code| code.starts_with("s_branch") || code.starts_with("s_endpgm"));
        if !ends && at + 1 < names.len() {
            next.push(at + 1);
        }
        Block { instructions: body.iter().map(|code| class(&mnemonic(code))).collect(), next }
    };
    bodies.iter().enumerate().map(of).collect()
}

fn class(name: &str) -> Class {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let float = ["_f32", "_f16", "_f64"].iter().any(|kind| name.contains(kind));
    match name {
        _ if starts(&["v_wmma", "v_swmmac", "v_mfma"]) => Class::Matrix,
        _ if starts(&["v_exp_", "v_log_", "v_rcp_", "v_rsq_", "v_sqrt_", "v_sin_", "v_cos_", "v_s_"]) => Class::Special,
        _ if starts(&["v_dual_fma", "v_fma", "v_pk_fma", "v_mad_f", "v_mac_f", "v_dot"]) => Class::Fma,
        _ if starts(&["v_cvt", "v_pack"]) => Class::Float,
        _ if starts(&["v_mov", "v_dual_mov", "v_readfirst", "v_readlane", "v_writelane", "v_swap", "v_accvgpr"]) => {
            Class::Move
        }
        _ if starts(&["v_permlane", "ds_bpermute", "ds_permute", "ds_swizzle"]) => Class::Lane,
        _ if starts(&["v_cmp", "v_cndmask"]) => Class::Integer,
        _ if starts(&["v_"]) => {
            if float {
                Class::Float
            } else {
                Class::Integer
            }
        }
        _ if starts(&["ds_"]) => Class::Shared,
        _ if starts(&["scratch_"]) => Class::Local,
        _ if starts(&["buffer_", "global_", "flat_"]) => Class::Buffer,
        _ if starts(&["s_barrier"]) => Class::Barrier,
        _ if starts(&["s_branch", "s_cbranch", "s_endpgm"]) => Class::Branch,
        _ if starts(&["s_wait", "s_delay", "s_clause", "s_nop", "s_sendmsg", "s_code_end", "s_inst_prefetch"]) => {
            Class::Other
        }
        _ if starts(&["s_"]) => Class::Scalar,
        _ => Class::Other,
    }
}
