//! A template's syntax tree, rebuilt so that everything that makes or walks a value passes the [`Budget`](super::budget::Budget):
//! fuel counts instructions, but one instruction may double a text, and sixty of those fill any memory.

use minijinja::Value;
use minijinja::machinery::Span;
use minijinja::machinery::ast::*;

use super::budget::{BOUNDED, CONCAT, MULTIPLY, PLAIN, TOUCHED};

/// Tests that look at no more than the kind of a value.
const CHEAP_TESTS: [&str; 17] = [
    "defined",
    "undefined",
    "none",
    "string",
    "mapping",
    "sequence",
    "iterable",
    "number",
    "integer",
    "int",
    "float",
    "boolean",
    "true",
    "false",
    "odd",
    "even",
    "callable",
];

/// The statement with its guards.
///
/// # Errors
/// The name of a statement that chat templates have no use for: those that read other templates or escape.
pub(super) fn statement<'a>(stmt: &Stmt<'a>) -> Result<Stmt<'a>, &'static str> {
    Ok(match stmt {
        Stmt::Template(s) => Stmt::Template(at(s.span(), Template { children: statements(&s.children)? })),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(at(s.span(), EmitExpr { expr: expr(&s.expr) })),
        // As an expression it is counted when it is written.
        Stmt::EmitRaw(s) => {
            Stmt::EmitExpr(at(s.span(), EmitExpr { expr: constant(s.span(), Value::from(s.raw)) }))
        }
        Stmt::ForLoop(s) => Stmt::ForLoop(at(
            s.span(),
            ForLoop {
                target: target(&s.target),
                iter: expr(&s.iter),
                filter_expr: s.filter_expr.as_ref().map(expr),
                recursive: s.recursive,
                body: statements(&s.body)?,
                else_body: statements(&s.else_body)?,
            },
        )),
        Stmt::IfCond(s) => Stmt::IfCond(at(
            s.span(),
            IfCond {
                expr: expr(&s.expr),
                true_body: statements(&s.true_body)?,
                false_body: statements(&s.false_body)?,
            },
        )),
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(name, value)| (target(name), expr(value))).collect();
            Stmt::WithBlock(at(s.span(), WithBlock { assignments, body: statements(&s.body)? }))
        }
        Stmt::Set(s) => {
            let value = expr(&s.expr);
            // A namespace inside of a namespace could hold itself.
            let value = match &s.target {
                Expr::GetAttr(_) => filter(s.span(), PLAIN, value, Vec::new()),
                _ => value,
            };
            Stmt::Set(at(s.span(), Set { target: target(&s.target), expr: value }))
        }
        Stmt::SetBlock(s) => {
            let filter = s.filter.as_ref().map(bare_filter);
            Stmt::SetBlock(at(
                s.span(),
                SetBlock { target: target(&s.target), filter, body: statements(&s.body)? },
            ))
        }
        Stmt::FilterBlock(s) => Stmt::FilterBlock(at(
            s.span(),
            FilterBlock { filter: bare_filter(&s.filter), body: statements(&s.body)? },
        )),
        Stmt::Macro(s) => Stmt::Macro(at(s.span(), declaration(s)?)),
        Stmt::CallBlock(s) => Stmt::CallBlock(at(
            s.span(),
            CallBlock {
                call: at(s.call.span(), call(&s.call)),
                macro_decl: at(s.macro_decl.span(), declaration(&s.macro_decl)?),
            },
        )),
        Stmt::Continue(s) => Stmt::Continue(at(s.span(), Continue)),
        Stmt::Break(s) => Stmt::Break(at(s.span(), Break)),
        Stmt::Do(s) => Stmt::Do(at(s.span(), Do { call: at(s.call.span(), call(&s.call)) })),
        Stmt::AutoEscape(_) => return Err("autoescape"),
        Stmt::Block(_) => return Err("block"),
        Stmt::Import(_) | Stmt::FromImport(_) => return Err("import"),
        Stmt::Extends(_) => return Err("extends"),
        Stmt::Include(_) => return Err("include"),
    })
}

fn statements<'a>(stmts: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, &'static str> {
    stmts.iter().map(statement).collect()
}

fn declaration<'a>(declared: &Macro<'a>) -> Result<Macro<'a>, &'static str> {
    Ok(Macro {
        name: declared.name,
        args: declared.args.iter().map(target).collect(),
        defaults: declared.defaults.iter().map(expr).collect(),
        body: statements(&declared.body)?,
    })
}

/// What is assigned to.
fn target<'a>(target_expr: &Expr<'a>) -> Expr<'a> {
    match target_expr {
        Expr::List(e) => Expr::List(at(e.span(), List { items: e.items.iter().map(target).collect() })),
        Expr::Tuple(e) => Expr::Tuple(at(e.span(), Tuple { items: e.items.iter().map(target).collect() })),
        Expr::GetAttr(e) => Expr::GetAttr(at(e.span(), GetAttr { expr: target(&e.expr), name: e.name })),
        other => expr(other),
    }
}

fn expr<'a>(source: &Expr<'a>) -> Expr<'a> {
    let span = source.span();
    match source {
        Expr::Var(e) => Expr::Var(at(span, Var { id: e.id })),
        Expr::Const(e) => constant(span, e.value.clone()),
        Expr::Slice(e) => bounded(Expr::Slice(at(
            span,
            Slice {
                expr: expr(&e.expr),
                start: e.start.as_ref().map(expr),
                stop: e.stop.as_ref().map(expr),
                step: e.step.as_ref().map(expr),
            },
        ))),
        Expr::UnaryOp(e) => {
            let op = match e.op {
                UnaryOpKind::Not => UnaryOpKind::Not,
                UnaryOpKind::Neg => UnaryOpKind::Neg,
            };
            Expr::UnaryOp(at(span, UnaryOp { op, expr: expr(&e.expr) }))
        }
        Expr::BinOp(e) => binary(span, e),
        Expr::Compare(e) => {
            let ops =
                e.ops.iter().map(|next| CompareOp { op: comparison(&next.op), expr: touched(&next.expr) });
            Expr::Compare(at(span, Compare { expr: touched(&e.expr), ops: ops.collect() }))
        }
        Expr::IfExpr(e) => Expr::IfExpr(at(
            span,
            IfExpr {
                test_expr: expr(&e.test_expr),
                true_expr: expr(&e.true_expr),
                false_expr: e.false_expr.as_ref().map(expr),
            },
        )),
        // Every filter that there is counts what it takes and what it gives.
        Expr::Filter(_) => bare_filter(source),
        Expr::Test(e) => {
            let tested = if CHEAP_TESTS.contains(&e.name) { expr(&e.expr) } else { touched(&e.expr) };
            Expr::Test(at(span, Test { name: e.name, expr: tested, args: arguments(&e.args) }))
        }
        Expr::GetAttr(e) => Expr::GetAttr(at(span, GetAttr { expr: expr(&e.expr), name: e.name })),
        Expr::GetItem(e) => {
            Expr::GetItem(at(span, GetItem { expr: expr(&e.expr), subscript_expr: expr(&e.subscript_expr) }))
        }
        Expr::Call(e) => bounded(Expr::Call(at(span, call(e)))),
        Expr::List(e) => bounded(Expr::List(at(span, List { items: e.items.iter().map(expr).collect() }))),
        Expr::Tuple(e) => bounded(Expr::Tuple(at(span, Tuple { items: e.items.iter().map(expr).collect() }))),
        Expr::Map(e) => bounded(Expr::Map(at(
            span,
            Map { keys: e.keys.iter().map(expr).collect(), values: e.values.iter().map(expr).collect() },
        ))),
    }
}

fn binary<'a>(span: Span, source: &BinOp<'a>) -> Expr<'a> {
    let plain = |op| BinOp { op, left: expr(&source.left), right: expr(&source.right) };
    let touching =
        |op| Expr::BinOp(at(span, BinOp { op, left: touched(&source.left), right: touched(&source.right) }));
    match source.op {
        BinOpKind::Concat => {
            filter(span, CONCAT, expr(&source.left), vec![CallArg::Pos(expr(&source.right))])
        }
        BinOpKind::Mul => filter(span, MULTIPLY, expr(&source.left), vec![CallArg::Pos(expr(&source.right))]),
        BinOpKind::Add => bounded(Expr::BinOp(at(span, plain(BinOpKind::Add)))),
        BinOpKind::Sub => Expr::BinOp(at(span, plain(BinOpKind::Sub))),
        BinOpKind::Div => Expr::BinOp(at(span, plain(BinOpKind::Div))),
        BinOpKind::FloorDiv => Expr::BinOp(at(span, plain(BinOpKind::FloorDiv))),
        BinOpKind::Rem => Expr::BinOp(at(span, plain(BinOpKind::Rem))),
        BinOpKind::Pow => Expr::BinOp(at(span, plain(BinOpKind::Pow))),
        BinOpKind::ScAnd => Expr::BinOp(at(span, plain(BinOpKind::ScAnd))),
        BinOpKind::ScOr => Expr::BinOp(at(span, plain(BinOpKind::ScOr))),
        BinOpKind::Eq => touching(BinOpKind::Eq),
        BinOpKind::Ne => touching(BinOpKind::Ne),
        BinOpKind::Lt => touching(BinOpKind::Lt),
        BinOpKind::Lte => touching(BinOpKind::Lte),
        BinOpKind::Gt => touching(BinOpKind::Gt),
        BinOpKind::Gte => touching(BinOpKind::Gte),
        BinOpKind::In => touching(BinOpKind::In),
    }
}

fn comparison(op: &CompareOpKind) -> CompareOpKind {
    match op {
        CompareOpKind::Eq => CompareOpKind::Eq,
        CompareOpKind::Ne => CompareOpKind::Ne,
        CompareOpKind::Lt => CompareOpKind::Lt,
        CompareOpKind::Lte => CompareOpKind::Lte,
        CompareOpKind::Gt => CompareOpKind::Gt,
        CompareOpKind::Gte => CompareOpKind::Gte,
        CompareOpKind::In => CompareOpKind::In,
        CompareOpKind::NotIn => CompareOpKind::NotIn,
    }
}

/// A filter stays the outermost expression, as blocks with filters want it.
fn bare_filter<'a>(source: &Expr<'a>) -> Expr<'a> {
    match source {
        Expr::Filter(e) => Expr::Filter(at(
            e.span(),
            Filter { name: e.name, expr: e.expr.as_ref().map(expr), args: arguments(&e.args) },
        )),
        other => expr(other),
    }
}

fn call<'a>(source: &Call<'a>) -> Call<'a> {
    Call { expr: expr(&source.expr), args: arguments(&source.args) }
}

fn arguments<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    args.iter()
        .map(|arg| match arg {
            CallArg::Pos(e) => CallArg::Pos(touched(e)),
            CallArg::Kwarg(name, e) => CallArg::Kwarg(name, touched(e)),
            CallArg::PosSplat(e) => CallArg::PosSplat(touched(e)),
            CallArg::KwargSplat(e) => CallArg::KwargSplat(touched(e)),
        })
        .collect()
}

/// The expression, whose value is counted and may not be too large.
fn bounded(source: Expr<'_>) -> Expr<'_> {
    let span = source.span();
    filter(span, BOUNDED, source, Vec::new())
}

/// The expression, the walking of whose value is counted.
fn touched<'a>(source: &Expr<'a>) -> Expr<'a> {
    match source {
        Expr::Const(_) => expr(source),
        _ => filter(source.span(), TOUCHED, expr(source), Vec::new()),
    }
}

fn filter<'a>(span: Span, name: &'static str, source: Expr<'a>, args: Vec<CallArg<'a>>) -> Expr<'a> {
    Expr::Filter(at(span, Filter { name, expr: Some(source), args }))
}

fn constant<'a>(span: Span, value: Value) -> Expr<'a> {
    Expr::Const(at(span, Const { value }))
}

fn at<T>(span: Span, node: T) -> Spanned<T> {
    Spanned::new(node, span)
}
