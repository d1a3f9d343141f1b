//! Rewrites a template's syntax tree so that everything that creates or traverses a value is counted by the
//! [`Budget`](super::budget::Budget). Fuel limits the number of instructions, but one instruction may double a string, and sixty of
//! those exhaust any memory.

use std::cell::Cell;

use minijinja::Value;
use minijinja::machinery::Span;
use minijinja::machinery::ast::*;

use super::budget::{BOUNDED, CONCAT, MULTIPLY, PLAIN, REMAINDER, SLICED, TOUCHED};

/// Tests that only inspect the kind of a value.
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

/// Maximum nesting depth of statements and expressions, over which the interpreter recurses.
const MAX_DEPTH: usize = 300;

/// Returns the template with all guards.
///
/// # Errors
/// For statements that chat templates do not need (loading other templates, escaping) and excessive nesting.
pub(super) fn guarded<'a>(template: &Stmt<'a>) -> Result<Stmt<'a>, String> {
    let rewriter = Rewriter::default();
    let rewritten = rewriter.statement(template).map_err(|name| format!("{{% {name} %}} is not supported"));
    if rewriter.too_deep.get() { Err(format!("nesting exceeds {MAX_DEPTH} levels")) } else { rewritten }
}

#[derive(Default)]
struct Rewriter {
    depth: Cell<usize>,
    too_deep: Cell<bool>,
}

impl Rewriter {
    /// Runs `work` one level deeper; `None` when the maximum depth is exceeded.
    fn deeper<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        if self.depth.get() == MAX_DEPTH {
            self.too_deep.set(true);
            return None;
        }
        self.depth.set(self.depth.get() + 1);
        let made = work();
        self.depth.set(self.depth.get() - 1);
        Some(made)
    }

    /// The statement with its guards, or the name of an unsupported statement.
    fn statement<'a>(&self, stmt: &Stmt<'a>) -> Result<Stmt<'a>, &'static str> {
        self.deeper(|| self.statement_inside(stmt)).unwrap_or(Err("deep"))
    }

    fn statement_inside<'a>(&self, stmt: &Stmt<'a>) -> Result<Stmt<'a>, &'static str> {
        Ok(match stmt {
            Stmt::Template(s) => {
                Stmt::Template(at(s.span(), Template { children: self.statements(&s.children)? }))
            }
            Stmt::EmitExpr(s) => Stmt::EmitExpr(at(s.span(), EmitExpr { expr: self.expr(&s.expr) })),
            // Converted to an expression, so that it is counted on output.
            Stmt::EmitRaw(s) => {
                Stmt::EmitExpr(at(s.span(), EmitExpr { expr: constant(s.span(), Value::from(s.raw)) }))
            }
            Stmt::ForLoop(s) => Stmt::ForLoop(at(
                s.span(),
                ForLoop {
                    target: self.target(&s.target),
                    iter: self.expr(&s.iter),
                    filter_expr: s.filter_expr.as_ref().map(|item| self.expr(item)),
                    recursive: s.recursive,
                    body: self.statements(&s.body)?,
                    else_body: self.statements(&s.else_body)?,
                },
            )),
            Stmt::IfCond(s) => Stmt::IfCond(at(
                s.span(),
                IfCond {
                    expr: self.expr(&s.expr),
                    true_body: self.statements(&s.true_body)?,
                    false_body: self.statements(&s.false_body)?,
                },
            )),
            Stmt::WithBlock(s) => {
                let assignments =
                    s.assignments.iter().map(|(name, value)| (self.target(name), self.expr(value))).collect();
                Stmt::WithBlock(at(s.span(), WithBlock { assignments, body: self.statements(&s.body)? }))
            }
            Stmt::Set(s) => {
                let value = self.expr(&s.expr);
                // A namespace inside a namespace could contain itself.
                let value = match &s.target {
                    Expr::GetAttr(_) => filter(s.span(), PLAIN, value, Vec::new()),
                    _ => value,
                };
                Stmt::Set(at(s.span(), Set { target: self.target(&s.target), expr: value }))
            }
            Stmt::SetBlock(s) => {
                let filter = s.filter.as_ref().map(|item| self.bare_filter(item));
                Stmt::SetBlock(at(
                    s.span(),
                    SetBlock { target: self.target(&s.target), filter, body: self.statements(&s.body)? },
                ))
            }
            Stmt::FilterBlock(s) => Stmt::FilterBlock(at(
                s.span(),
                FilterBlock { filter: self.bare_filter(&s.filter), body: self.statements(&s.body)? },
            )),
            Stmt::Macro(s) => Stmt::Macro(at(s.span(), self.declaration(s)?)),
            Stmt::CallBlock(s) => Stmt::CallBlock(at(
                s.span(),
                CallBlock {
                    call: at(s.call.span(), self.call(&s.call)),
                    macro_decl: at(s.macro_decl.span(), self.declaration(&s.macro_decl)?),
                },
            )),
            Stmt::Continue(s) => Stmt::Continue(at(s.span(), Continue)),
            Stmt::Break(s) => Stmt::Break(at(s.span(), Break)),
            Stmt::Do(s) => Stmt::Do(at(s.span(), Do { call: at(s.call.span(), self.call(&s.call)) })),
            Stmt::AutoEscape(_) => return Err("autoescape"),
            Stmt::Block(_) => return Err("block"),
            Stmt::Import(_) | Stmt::FromImport(_) => return Err("import"),
            Stmt::Extends(_) => return Err("extends"),
            Stmt::Include(_) => return Err("include"),
        })
    }

    fn statements<'a>(&self, stmts: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, &'static str> {
        stmts.iter().map(|item| self.statement(item)).collect()
    }

    fn declaration<'a>(&self, declared: &Macro<'a>) -> Result<Macro<'a>, &'static str> {
        Ok(Macro {
            name: declared.name,
            args: declared.args.iter().map(|item| self.target(item)).collect(),
            defaults: declared.defaults.iter().map(|item| self.expr(item)).collect(),
            body: self.statements(&declared.body)?,
        })
    }

    /// The target of an assignment.
    fn target<'a>(&self, source: &Expr<'a>) -> Expr<'a> {
        self.deeper(|| self.target_inside(source)).unwrap_or_else(|| constant(source.span(), Value::from(())))
    }

    fn target_inside<'a>(&self, target_expr: &Expr<'a>) -> Expr<'a> {
        match target_expr {
            Expr::List(e) => Expr::List(at(
                e.span(),
                List { items: e.items.iter().map(|item| self.target(item)).collect() },
            )),
            Expr::Tuple(e) => Expr::Tuple(at(
                e.span(),
                Tuple { items: e.items.iter().map(|item| self.target(item)).collect() },
            )),
            Expr::GetAttr(e) => {
                Expr::GetAttr(at(e.span(), GetAttr { expr: self.target(&e.expr), name: e.name }))
            }
            other => self.expr(other),
        }
    }

    fn expr<'a>(&self, source: &Expr<'a>) -> Expr<'a> {
        self.deeper(|| self.expr_inside(source)).unwrap_or_else(|| constant(source.span(), Value::from(())))
    }

    fn expr_inside<'a>(&self, source: &Expr<'a>) -> Expr<'a> {
        let span = source.span();
        match source {
            Expr::Var(e) => Expr::Var(at(span, Var { id: e.id })),
            Expr::Const(e) => constant(span, e.value.clone()),
            Expr::Slice(e) => filter(
                span,
                SLICED,
                Expr::Slice(at(
                    span,
                    Slice {
                        expr: self.expr(&e.expr),
                        start: e.start.as_ref().map(|item| self.expr(item)),
                        stop: e.stop.as_ref().map(|item| self.expr(item)),
                        step: e.step.as_ref().map(|item| self.expr(item)),
                    },
                )),
                Vec::new(),
            ),
            Expr::UnaryOp(e) => {
                let negative = matches!(e.op, UnaryOpKind::Neg);
                let op = if negative { UnaryOpKind::Neg } else { UnaryOpKind::Not };
                Expr::UnaryOp(at(span, UnaryOp { op, expr: self.expr(&e.expr) }))
            }
            Expr::BinOp(e) => self.binary(span, e),
            Expr::Compare(e) => {
                let ops = e
                    .ops
                    .iter()
                    .map(|next| CompareOp { op: comparison(&next.op), expr: self.touched(&next.expr) });
                Expr::Compare(at(span, Compare { expr: self.touched(&e.expr), ops: ops.collect() }))
            }
            Expr::IfExpr(e) => Expr::IfExpr(at(
                span,
                IfExpr {
                    test_expr: self.expr(&e.test_expr),
                    true_expr: self.expr(&e.true_expr),
                    false_expr: e.false_expr.as_ref().map(|item| self.expr(item)),
                },
            )),
            // All filters count their inputs and results themselves.
            Expr::Filter(_) => self.bare_filter(source),
            Expr::Test(e) => {
                let tested =
                    if CHEAP_TESTS.contains(&e.name) { self.expr(&e.expr) } else { self.touched(&e.expr) };
                Expr::Test(at(span, Test { name: e.name, expr: tested, args: self.arguments(&e.args) }))
            }
            Expr::GetAttr(e) => Expr::GetAttr(at(span, GetAttr { expr: self.expr(&e.expr), name: e.name })),
            Expr::GetItem(e) => Expr::GetItem(at(
                span,
                GetItem { expr: self.expr(&e.expr), subscript_expr: self.expr(&e.subscript_expr) },
            )),
            Expr::Call(e) => self.bounded(Expr::Call(at(span, self.call(e)))),
            Expr::List(e) => self.bounded(Expr::List(at(
                span,
                List { items: e.items.iter().map(|item| self.expr(item)).collect() },
            ))),
            Expr::Tuple(e) => self.bounded(Expr::Tuple(at(
                span,
                Tuple { items: e.items.iter().map(|item| self.expr(item)).collect() },
            ))),
            Expr::Map(e) => self.bounded(Expr::Map(at(
                span,
                Map {
                    keys: e.keys.iter().map(|item| self.expr(item)).collect(),
                    values: e.values.iter().map(|item| self.expr(item)).collect(),
                },
            ))),
        }
    }

    fn binary<'a>(&self, span: Span, source: &BinOp<'a>) -> Expr<'a> {
        let plain = |op| BinOp { op, left: self.expr(&source.left), right: self.expr(&source.right) };
        let touching = |op| {
            Expr::BinOp(at(
                span,
                BinOp { op, left: self.touched(&source.left), right: self.touched(&source.right) },
            ))
        };
        match source.op {
            BinOpKind::Concat => {
                filter(span, CONCAT, self.expr(&source.left), vec![CallArg::Pos(self.expr(&source.right))])
            }
            BinOpKind::Mul => {
                filter(span, MULTIPLY, self.expr(&source.left), vec![CallArg::Pos(self.expr(&source.right))])
            }
            BinOpKind::Add => self.bounded(Expr::BinOp(at(span, plain(BinOpKind::Add)))),
            BinOpKind::Sub => Expr::BinOp(at(span, plain(BinOpKind::Sub))),
            BinOpKind::Div => Expr::BinOp(at(span, plain(BinOpKind::Div))),
            BinOpKind::FloorDiv => Expr::BinOp(at(span, plain(BinOpKind::FloorDiv))),
            BinOpKind::Rem => {
                // The values of a format string may be a tuple.
                let tuple = constant(span, Value::from(matches!(source.right, Expr::Tuple(_))));
                let args = vec![CallArg::Pos(self.touched(&source.right)), CallArg::Pos(tuple)];
                filter(span, REMAINDER, self.touched(&source.left), args)
            }
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

    /// Keeps a filter as the outermost expression, as filter blocks require.
    fn bare_filter<'a>(&self, source: &Expr<'a>) -> Expr<'a> {
        match source {
            Expr::Filter(e) => Expr::Filter(at(
                e.span(),
                Filter {
                    name: e.name,
                    expr: e.expr.as_ref().map(|item| self.expr(item)),
                    args: self.arguments(&e.args),
                },
            )),
            other => self.expr(other),
        }
    }

    fn call<'a>(&self, source: &Call<'a>) -> Call<'a> {
        Call { expr: self.expr(&source.expr), args: self.arguments(&source.args) }
    }

    fn arguments<'a>(&self, args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
        args.iter()
            .map(|arg| match arg {
                CallArg::Pos(e) => CallArg::Pos(self.touched(e)),
                CallArg::Kwarg(name, e) => CallArg::Kwarg(name, self.touched(e)),
                CallArg::PosSplat(e) => CallArg::PosSplat(self.touched(e)),
                CallArg::KwargSplat(e) => CallArg::KwargSplat(self.touched(e)),
            })
            .collect()
    }

    /// The expression, with its value counted and its size checked.
    fn bounded<'a>(&self, source: Expr<'a>) -> Expr<'a> {
        let span = source.span();
        filter(span, BOUNDED, source, Vec::new())
    }

    /// The expression, with the traversal of its value counted.
    fn touched<'a>(&self, source: &Expr<'a>) -> Expr<'a> {
        match source {
            Expr::Const(_) => self.expr(source),
            _ => filter(source.span(), TOUCHED, self.expr(source), Vec::new()),
        }
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

fn filter<'a>(span: Span, name: &'static str, source: Expr<'a>, args: Vec<CallArg<'a>>) -> Expr<'a> {
    Expr::Filter(at(span, Filter { name, expr: Some(source), args }))
}

fn constant<'a>(span: Span, value: Value) -> Expr<'a> {
    Expr::Const(at(span, Const { value }))
}

fn at<T>(span: Span, node: T) -> Spanned<T> {
    Spanned::new(node, span)
}
