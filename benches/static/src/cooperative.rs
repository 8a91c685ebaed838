//! Cooperative matrices of 16×16 for a language that has none: in WGSL functions in their place, and in CUDA C++ what
//! these functions do: `ldmatrix`, `mma.sync` and stores, with elements where PTX's documentation puts them. So the
//! assembly has the tensor cores' instructions. A driver may load fragments otherwise.

use crate::driver::Result;

/// Rows and columns of a fragment.
pub const FRAGMENT: u32 = 16;

/// What WGSL says of a module that has cooperative matrices.
const DIRECTIVE: &str = "enable wgpu_cooperative_matrix;";

/// The fragments of `lib/coop16.wgsl`, and what an invocation of a warp holds of them. Slang numbers names that occur
/// twice, so these occur once.
const FRAGMENTS: [(&str, &str); 3] = [
    ("alias Lhs = coop_mat16x16<f16, A>;", "struct Lhs { held_a: vec4<u32> }"),
    ("alias Rhs = coop_mat16x16<f16, B>;", "struct Rhs { held_b: vec4<u32> }"),
    ("alias Sum = coop_mat16x16<f32, C>;", "struct Sum { held_left: vec4<f32>, held_right: vec4<f32> }"),
];

/// What stands in place of WGSL's product until Slang has written CUDA. As for all these functions, its body only uses
/// what it is given, so that nothing is left out on the way.
const MULTIPLY_ADD: &str = "
fn coop_multiply_add(a: Lhs, b: Rhs, c: Sum) -> Sum {
    return Sum(c.held_left + vec4<f32>(a.held_a), c.held_right + vec4<f32>(b.held_b));
}
";

/// The loads and stores of WGSL, the names of the functions in their place, and their bodies in CUDA: of the first
/// element in memory, and of the distance of rows (or columns) there.
const CALLS: [(&str, &str, &str); 6] = [
    ("coopLoadT<Lhs>(", "coop_lhs_rows", "{F} f; f.held_a_0 = coop_load<true, false>({AT}, {STRIDE}); return f;"),
    ("coopLoad<Lhs>(", "coop_lhs_columns", "{F} f; f.held_a_0 = coop_load<false, true>({AT}, {STRIDE}); return f;"),
    ("coopLoadT<Rhs>(", "coop_rhs_rows", "{F} f; f.held_b_0 = coop_load<true, true>({AT}, {STRIDE}); return f;"),
    ("coopLoad<Rhs>(", "coop_rhs_columns", "{F} f; f.held_b_0 = coop_load<false, false>({AT}, {STRIDE}); return f;"),
    ("coopStoreT(", "coop_store_rows", "coop_store<true>({AT}, {STRIDE}, {C}.held_left_0, {C}.held_right_0);"),
    ("coopStore(", "coop_store_columns", "coop_store<false>({AT}, {STRIDE}, {C}.held_left_0, {C}.held_right_0);"),
];

/// What the bodies in CUDA call. A fragment of f16 is four matrices of 8×8: those beside each other along m (or n)
/// come first in an operand a, those along k in b. A fragment of sums is its two halves of eight columns.
const DEVICE: &str = r#"
template<bool ROWS, bool TRANSPOSED, typename T>
__device__ __forceinline__ uint4 coop_load(const T* at, unsigned stride) {
    unsigned lane = threadIdx.x % 32, pitch = stride * (sizeof(T) / 2);
    unsigned element = ROWS ? lane % 16 * pitch + lane / 16 * 8
                            : (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8;
    unsigned place = (unsigned)__cvta_generic_to_shared((const char*)at + element * 2);
    uint4 x;
    if (TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
            : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(place) : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
            : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(place) : "memory");
    }
    return x;
}
__device__ __forceinline__ float4 coop_mma(uint4 a, unsigned b0, unsigned b1, float4 c) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c.x), "+f"(c.y), "+f"(c.z), "+f"(c.w) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
    return c;
}
template<bool ROWS> __device__ __forceinline__ void coop_store(float* at, unsigned stride, float4 x, float4 y) {
    unsigned lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
    for (int half = 0; half < 2; half++, column += 8, x = y) {
        if (ROWS) {
            *(float2*)(at + row * stride + column) = make_float2(x.x, x.y);
            *(float2*)(at + (row + 8) * stride + column) = make_float2(x.z, x.w);
        } else {
            float* first = at + column * stride + row;
            first[0] = x.x, first[stride] = x.y, first[8] = x.z, first[stride + 8] = x.w;
        }
    }
}
"#;

/// Whether the fragments of a WGSL source are those of 16×16.
pub fn are_known(source: &str) -> bool {
    FRAGMENTS.iter().all(|(fragment, _)| source.contains(fragment))
}

/// Whether a WGSL source has cooperative matrices.
pub fn are_in(source: &str) -> bool {
    source.contains(DIRECTIVE)
}

/// WGSL with functions in place of cooperative matrices.
///
/// # Errors
/// If it has fragments of another size, or is written otherwise than is known here.
pub fn replaced(source: &str) -> Result<String> {
    let mut text = source.replace(DIRECTIVE, "").replace("coopMultiplyAdd(", "coop_multiply_add(");
    if !are_known(source) {
        return Err("cooperative matrices of another size than 16×16".into());
    }
    for (fragment, holds) in FRAGMENTS {
        text = text.replace(fragment, holds);
    }
    text.push_str(MULTIPLY_ADD);
    for (call, function, _) in CALLS {
        let mut memories: Vec<String> = Vec::new();
        while let Some(start) = text.find(call) {
            let rest = &text[start + call.len()..];
            let unknown = || format!("`{call}{}`: not &memory[place]", rest.lines().next().unwrap_or_default());
            let (before, behind) = rest.split_once('&').ok_or_else(unknown)?;
            let (memory, behind) = behind.split_once('[').ok_or_else(unknown)?;
            let (place, behind) = behind.split_once(']').ok_or_else(unknown)?;
            let memory = memory.to_owned();
            let call = format!("{function}_of_{memory}({before}{place}{behind}");
            text.replace_range(start.., &call);
            if !memories.contains(&memory) {
                memories.push(memory);
            }
        }
        for memory in memories {
            text.push_str(&stand_in(&text, function, &memory)?);
        }
    }
    Ok(text)
}

/// A function in WGSL, in place of a load or a store.
fn stand_in(source: &str, function: &str, memory: &str) -> Result<String> {
    let declared = source.split(&format!("var<workgroup> {memory}: array<")).nth(1);
    let declared = declared.ok_or_else(|| format!("{memory} is no array in workgroup memory"))?;
    let name = format!("{function}_of_{memory}");
    if function.contains("store") {
        return Ok(format!(
            "fn {name}(c: Sum, at: u32, stride: u32) {{ {memory}[at] = c.held_left.x + f32(stride); }}\n"
        ));
    }
    let element = if declared.starts_with("f16") { "" } else { ".x" };
    let fragment = if function.contains("lhs") { "Lhs" } else { "Rhs" };
    let value = format!("vec4(u32({memory}[at]{element}) + stride)");
    Ok(format!("fn {name}(at: u32, stride: u32) -> {fragment} {{ return {fragment}({value}); }}\n"))
}

/// The CUDA C++ that Slang made of [`replaced`], in which these functions do what they stand for.
///
/// # Errors
/// If Slang wrote them in another form than is known here.
pub fn restored(cuda: &str) -> Result<String> {
    let product = "{F} f = {C}; f.held_left_0 = coop_mma({A}.held_a_0, {B}.held_b_0.x, {B}.held_b_0.y, f.held_left_0); \
        f.held_right_0 = coop_mma({A}.held_a_0, {B}.held_b_0.z, {B}.held_b_0.w, f.held_right_0); return f;";
    let functions = CALLS.map(|(_, function, body)| (format!(" {function}_of_"), body));
    let functions = [(" coop_multiply_add_".to_owned(), product)].into_iter().chain(functions);
    let functions: Vec<(String, &str)> = functions.collect();
    let mut text = DEVICE.to_owned();
    let mut rest = cuda;
    while let Some(start) = rest.find("\n__device__ ") {
        let (head, behind) = rest.split_at(start);
        text.push_str(head);
        let signature = behind.trim_start().lines().next().unwrap_or_default();
        let Some((_, body)) = functions.iter().find(|(name, _)| signature.contains(name)) else {
            let (this, behind) = behind.split_at(1);
            text.push_str(this);
            rest = behind;
            continue;
        };
        let unknown = || format!("`{signature}` is not as Slang writes it here");
        let (function, behind) = behind.split_once("\n}").ok_or_else(unknown)?;
        text.push_str(&format!(
            "\n{signature}\n{{\n    {}\n}}",
            filled(body, signature, function).ok_or_else(unknown)?
        ));
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

/// The body of a function of [`CALLS`], with the names that it has in this signature and in its stand-in's body.
fn filled(body: &str, signature: &str, function: &str) -> Option<String> {
    let (head, arguments) = signature.split_once('(')?;
    let fragment = head.split_whitespace().nth(1)?;
    let value = |argument: &str| {
        let name = argument.split([' ', '*']).next_back()?;
        Some(if argument.contains('*') { format!("(*{name})") } else { name.to_owned() })
    };
    let arguments: Vec<String> = arguments.split(')').next()?.split(',').filter_map(value).collect();
    let body = body.replace("{F}", fragment);
    if !body.contains("{AT}") {
        let [a, b, c] = &arguments[..] else { return None };
        return Some(body.replace("{A}", a).replace("{B}", b).replace("{C}", c));
    }
    let (memory, _) = function.split_once("(*&")?.1.split_once(')')?;
    let [.., at, stride] = &arguments[..] else { return None };
    let body = body.replace("{AT}", &format!("&{memory}[{at}]")).replace("{STRIDE}", stride);
    Some(body.replace("{C}", &arguments[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_become_functions_and_these_become_instructions() {
        let wgsl = format!(
            "enable f16; {DIRECTIVE} \n{}\nvar<workgroup> sh: array<vec4<f16>, 640>;\n\
             fn f(s: Sum) {{ let a = coopLoadT<Lhs>(&sh[x + 1u], P); let b = coopLoad<Rhs>(&sh[y], P); }}\n",
            FRAGMENTS.map(|(fragment, _)| fragment).join("\n")
        );
        let text = replaced(&wgsl).unwrap();
        assert!(are_in(&wgsl) && !are_in(&text));
        assert!(
            text.contains("let a = coop_lhs_rows_of_sh(x + 1u, P); let b = coop_rhs_columns_of_sh(y, P);"),
            "{text}"
        );
        assert!(text.contains("fn coop_rhs_columns_of_sh(at: u32, stride: u32) -> Rhs"), "{text}");

        let cuda = "#include <x>\n__device__ Lhs_0 coop_lhs_rows_of_sh_0(uint at_0, uint stride_0)\n{\n    \
            return uint((*&sh_0)[at_0].x) + stride_0;\n}\n__device__ void f_0()\n{\n}\n";
        let done = restored(cuda).unwrap();
        let expected = "{\n    Lhs_0 f; f.held_a_0 = coop_load<true, false>(&sh_0[at_0], stride_0); return f;\n}\n\
            __device__ void f_0()\n{\n}\n";
        assert!(done.ends_with(expected), "{done}");
    }

    #[test]
    fn other_sizes_and_other_memories_are_refused() {
        assert!(replaced("alias Lhs = coop_mat8x8<f16, A>;").unwrap_err().contains("another size"));
        let declared = FRAGMENTS.map(|(fragment, _)| fragment).join("\n");
        assert!(replaced(&format!("{declared}\ncoopStore(s, &c[0u], n);")).unwrap_err().contains("workgroup memory"));
        assert!(replaced(&format!("{declared}\ncoopStore(s, c, n);")).unwrap_err().contains("&memory[place]"));
    }
}
