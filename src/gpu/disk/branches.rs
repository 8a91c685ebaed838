//! Shaders without the branches that their constants decide.
//!
//! All variants of a kernel are one WGSL source with constants in front: `if C == 4u { … }`. Drivers inline every call
//! before they look at conditions, so each variant would cost them as much as all together: without these branches
//! Mesa's llvmpipe takes a tenth of the time for the backward scan, and half of it for a product. A browser's compiler
//! gets the text as it is.

use std::borrow::Cow;
use std::collections::HashMap;

use wgpu::naga::compact::{KeepUnused, compact};
use wgpu::naga::{
    Arena, Block, Constant, Expression, Function, Handle, Literal, LocalVariable, Module, Span, Statement,
    UnaryOperator, front::wgsl,
};

/// The shader of a WGSL source, as wgpu takes it. A source that is not WGSL stays as it is: wgpu says what is wrong.
pub fn shader(source: &str) -> wgpu::ShaderSource<'_> {
    match module(source) {
        Ok(module) => wgpu::ShaderSource::Naga(Cow::Owned(module)),
        Err(_) => wgpu::ShaderSource::Wgsl(source.into()),
    }
}

/// The parsed source without the branches that are never taken, and without what only they use.
///
/// # Errors
/// If the source is not WGSL.
pub fn module(source: &str) -> Result<Module, wgsl::ParseError> {
    let mut module = wgsl::parse_str(source)?;
    let constants: HashMap<_, _> = module
        .constants
        .iter()
        .filter_map(|(handle, constant)| Some((handle, literal(&module.global_expressions[constant.init])?)))
        .collect();
    let functions = module.functions.iter_mut().map(|(_, function)| function);
    for function in functions.chain(module.entry_points.iter_mut().map(|entry| &mut entry.function)) {
        let Function { body, expressions, local_variables, named_expressions, .. } = function;
        named_expressions.clear(); // a name would keep what only a branch computes that is gone
        let mut known = Known { expressions, locals: local_variables, constants: &constants, stored: HashMap::new() };
        *body = known.taken(std::mem::take(body));
    }
    compact(&mut module, KeepUnused::No);
    Ok(module)
}

fn literal(expression: &Expression) -> Option<bool> {
    match expression {
        Expression::Literal(Literal::Bool(value)) => Some(*value),
        _ => None,
    }
}

/// What is known of the conditions of a function.
struct Known<'a> {
    expressions: &'a Arena<Expression>,
    locals: &'a Arena<LocalVariable>,
    constants: &'a HashMap<Handle<Constant>, bool>,
    /// Values of the variables that naga makes for `a && b` and `a || b`: `if a { v = b; } else { v = false; }`. They
    /// have no name, and nothing else stores to them.
    stored: HashMap<Handle<LocalVariable>, bool>,
}

impl Known<'_> {
    /// The value of a condition, if the constants decide it.
    fn value(&self, condition: Handle<Expression>) -> Option<bool> {
        match &self.expressions[condition] {
            Expression::Constant(constant) => self.constants.get(constant).copied(),
            Expression::Unary { op: UnaryOperator::LogicalNot, expr } => self.value(*expr).map(|value| !value),
            Expression::Load { pointer } => match &self.expressions[*pointer] {
                Expression::LocalVariable(variable) => self.stored.get(variable).copied(),
                _ => None,
            },
            other => literal(other),
        }
    }

    /// A block with, instead of a branch whose condition is known, what it would run, and nothing behind a jump.
    fn taken(&mut self, block: Block) -> Block {
        let mut kept = Block::with_capacity(block.len());
        for (statement, span) in block.span_into_iter() {
            self.keep(&mut kept, statement, span);
            if kept.last().is_some_and(ends) {
                break;
            }
        }
        kept
    }

    fn keep(&mut self, kept: &mut Block, statement: Statement, span: Span) {
        let statement = match statement {
            Statement::If { condition, accept, reject } => match self.value(condition) {
                Some(value) => {
                    let taken = self.taken(if value { accept } else { reject });
                    self.learn(&taken);
                    return kept.extend_block(taken);
                }
                None => Statement::If { condition, accept: self.taken(accept), reject: self.taken(reject) },
            },
            Statement::Block(inner) => Statement::Block(self.taken(inner)),
            Statement::Loop { body, continuing, break_if } => {
                Statement::Loop { body: self.taken(body), continuing: self.taken(continuing), break_if }
            }
            Statement::Switch { selector, mut cases } => {
                cases.iter_mut().for_each(|case| case.body = self.taken(std::mem::take(&mut case.body)));
                Statement::Switch { selector, cases }
            }
            other => other,
        };
        kept.push(statement, span);
    }

    /// Remembers what a branch that is always taken stores to a variable of `&&` or `||`.
    fn learn(&mut self, taken: &[Statement]) {
        let Some(Statement::Store { pointer, value }) = taken.last() else { return };
        let Expression::LocalVariable(variable) = self.expressions[*pointer] else { return };
        if let (None, Some(value)) = (&self.locals[variable].name, self.value(*value)) {
            self.stored.insert(variable, value);
        }
    }
}

/// Whether nothing behind this statement runs.
fn ends(statement: &Statement) -> bool {
    matches!(statement, Statement::Return { .. } | Statement::Kill | Statement::Break | Statement::Continue)
}

#[cfg(test)]
mod tests {
    use wgpu::naga::valid::{Capabilities, Validator};

    use super::*;

    /// The number of statements in a block and in all blocks inside.
    fn count(block: &Block) -> usize {
        let inside = |statement: &Statement| match statement {
            Statement::If { accept, reject, .. } => count(accept) + count(reject),
            Statement::Loop { body, continuing, .. } => count(body) + count(continuing),
            Statement::Block(block) => count(block),
            _ => 0,
        };
        block.iter().map(|statement| 1 + inside(statement)).sum()
    }

    fn shader(c: u32) -> String {
        format!(
            "const C = {c}u;
            @group(0) @binding(0) var<storage, read_write> y: array<u32>;
            fn four() {{ y[0] = 4u; }}
            fn one() {{ y[0] = 1u; }}
            @compute @workgroup_size(1) fn main() {{
                if C == 4u && y[1] > 0u {{ four(); }}
                if !(C == 4u) {{ one(); return; }}
                for (var i = 0u; i < C; i++) {{ if C == 2u || i > y[2] {{ four(); }} }}
                y[3] = 3u;
            }}"
        )
    }

    #[test]
    fn branches_that_constants_decide_are_gone_and_others_stay() {
        let [one, four] = [1, 4].map(|c| module(&shader(c)).unwrap());
        assert_eq!(one.functions.len(), 1, "only `one` is called");
        assert_eq!(four.functions.len(), 1, "only `four` is called");
        let calls = |module: &Module| {
            let body = &module.entry_points[0].function.body;
            (count(body), body.iter().filter(|statement| matches!(statement, Statement::If { .. })).count())
        };
        assert_eq!(calls(&one).1, 0, "{:?}", one.entry_points[0].function.body);
        assert!(matches!(one.entry_points[0].function.body.last(), Some(Statement::Return { .. })));
        assert_eq!(calls(&four).1, 1, "y[1] > 0 is not known: {:?}", four.entry_points[0].function.body);
        assert!(calls(&four).0 > calls(&one).0);
        let mut validator = Validator::new(Default::default(), Capabilities::default());
        for module in [one, four] {
            validator.validate(&module).unwrap();
        }
        assert!(module("not WGSL").is_err());
    }
}
