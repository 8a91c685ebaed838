//! Dump of a case: its inputs and results as a safetensors file, so that other implementations can compute the same and
//! compare.
//!
//! Tensors are named `input.NAME`, `output.NAME`, `dout.NAME` (gradient of an output) and `grad.NAME` (gradient of an
//! input). `config` in the metadata holds family, case and facts as JSON.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::bench::case::{Case, Direction};
use crate::bench::inputs::Named;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::train::weights_file::serialize;

/// Name of the dump: `family-case.safetensors`. In the case's name, characters other than letters, digits and dots
/// become `_`.
pub fn file_name(case: &Case) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    format!("{}-{}.safetensors", case.family, case.name.chars().map(plain).collect::<String>())
}

/// Runs the case once on new inputs, and writes inputs and results to a file in `folder`.
pub fn dump(g: &Gpu, case: &Case, folder: &Path) -> Result<()> {
    let built = case.build(g, if case.has_rule() { Direction::Backward } else { Direction::Forward })?;
    let mut arrays = Vec::new();
    let mut add = |kind: &str, list: &[Named]| -> Result<()> {
        for named in list {
            let bytes = named.tensor.read(g)?.wait()?;
            let dtype = match named {
                named if named.words => Dtype::U32,
                named if named.tensor.is_f16() => Dtype::F16,
                _ => Dtype::F32,
            };
            arrays.push((format!("{kind}.{}", named.name), dtype, named.tensor.shape().to_vec(), bytes));
        }
        Ok(())
    };
    add("input", &built.inputs)?; // before the run, because some operators update their inputs in place
    built.forward.run()?;
    if let Some(backward) = &built.backward {
        backward.run()?;
    }
    add("output", &built.outputs)?;
    add("dout", &built.douts)?;
    add("grad", &built.grads)?;
    let path = folder.join(file_name(case));
    let broken = |e: &dyn std::fmt::Display| Error::file(&path, e);
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &arrays {
        let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| broken(&e))?;
        views.push((name.as_str(), view));
    }
    let config = json!({ "family": case.family, "case": case.name, "facts": case.facts }).to_string();
    let metadata = HashMap::from([("format".into(), "rowscan-bench/1".into()), ("config".into(), config)]);
    let bytes = serialize(views, metadata).map_err(|e| broken(&e))?;
    std::fs::write(&path, bytes).map_err(Error::io(&path, "written"))
}
