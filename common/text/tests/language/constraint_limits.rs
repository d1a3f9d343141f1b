//! Costly constraints are refused within a bound of time and memory, and delay nobody else.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use serde_json::{Value, json};
use videosdgx_text::{
    COMPILE_LIMIT, CompileBudget, CompileError, CompilePool, CompilePoolConfig, Constraint,
    ConstraintCompiler, ConstraintError,
};

fn compiler() -> ConstraintCompiler {
    let tokenizer = crate::support::qwen();
    let end = tokenizer.token_id("<|im_end|>").expect("there");
    ConstraintCompiler::new(&tokenizer, &[end]).expect("compiles")
}

/// Peak resident memory of this process in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

/// `depth` levels of rules, each of `width` uses of the next one.
fn nested_rules(depth: usize, width: usize, last: &str) -> String {
    let mut rules = "start: R0\n".to_owned();
    for level in 0..depth {
        let next = if level + 1 == depth { last.to_owned() } else { format!("R{} ", level + 1) };
        rules.push_str(&format!("R{level}: {}\n", next.repeat(width)));
    }
    rules
}

fn multiplied(alternatives: usize, factors: usize) -> Value {
    let options = |factor: usize| -> Vec<Value> {
        (0..alternatives)
            .map(|option| json!({"properties": {format!("p{factor}"): {"const": option}}}))
            .collect()
    };
    json!({"allOf": (0..factors).map(|factor| json!({"anyOf": options(factor)})).collect::<Vec<_>>()})
}

/// The old code needed 6 s and 55 s for the first two in a release build, and 3.7 GB for the second.
#[test]
fn a_costly_constraint_is_refused_soon() {
    let compiler = compiler();
    let before = peak_memory();
    let bombs = [
        Constraint::Regex(".*".repeat(5_000)),
        Constraint::Regex(".*".repeat(10_000)),
        Constraint::Regex("a?".repeat(20_000)),
        Constraint::Regex("(.*x?)".repeat(3_000)),
        Constraint::Regex("(.{0,100})".repeat(3_000)),
        Constraint::JsonSchema(json!({"type": "string", "pattern": ".*".repeat(5_000)})),
        Constraint::Lark(format!("start: X\nX: {}", "/.*/ ".repeat(5_000))),
        Constraint::Lark(nested_rules(6, 10, "/.*/ ")),
        Constraint::Lark(nested_rules(10, 3, "/a?b*/ ")),
        Constraint::JsonSchema(multiplied(20, 8)),
        Constraint::Lark(format!("start: %json {}", multiplied(20, 8))),
        Constraint::JsonSchema(
            json!({"$ref": "#/$defs/a", "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}],
            "$defs": {"a": multiplied(60, 2)}}),
        ),
    ];
    for constraint in bombs {
        let short: String = format!("{constraint:?}").chars().take(60).collect();
        let start = Instant::now();
        let outcome = compiler.compile(&constraint);
        let took = start.elapsed();
        println!("{took:?} {short} {:?}", outcome.as_ref().err());
        assert!(
            matches!(outcome, Err(ConstraintError::Invalid(_) | ConstraintError::TooSlow)),
            "{short}: {outcome:?}"
        );
        assert!(took < COMPILE_LIMIT * 2, "{short} took {took:?}");
    }
    let taken = peak_memory() - before;
    assert!(taken < 400 << 20, "{} MiB", taken >> 20);
}

/// What people send is far below the limits.
#[test]
fn ordinary_constraints_are_within_the_limits() {
    let compiler = compiler();
    let options: Vec<String> = (0..2_000).map(|number| format!("option number {number}")).collect();
    let properties: serde_json::Map<String, Value> = (0..150)
        .map(|number| (format!("field_{number}"), json!({"type": ["string", "null"], "maxLength": 200})))
        .collect();
    for constraint in [
        Constraint::Regex(r"[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{2,63}){1,4}".to_owned()),
        Constraint::Regex(r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2})?".to_owned()),
        Constraint::Regex(".*".repeat(20)),
        Constraint::JsonSchema(json!({"enum": options})),
        Constraint::JsonSchema(json!({"type": "object", "properties": properties})),
        Constraint::JsonSchema(multiplied(3, 3)),
        Constraint::JsonSchema(json!({"$defs": {"node": {"type": "object", "properties": {
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}, "$ref": "#/$defs/node"})),
    ] {
        let short: String = format!("{constraint:?}").chars().take(60).collect();
        let start = Instant::now();
        compiler.compile(&constraint).unwrap_or_else(|error| panic!("{short}: {error}"));
        println!("{:?} {short}", start.elapsed());
    }
}

#[test]
fn a_cancelled_compilation_ends() {
    let budget = CompileBudget::new(Duration::from_secs(60));
    budget.cancel();
    let constraint = Constraint::Regex("[a-z]+".to_owned());
    let compiler = compiler();
    let outcome = compiler.prepare(&constraint, &budget);
    assert_eq!(outcome.map(|_| ()), Err(ConstraintError::Cancelled));
    let expired = CompileBudget::new(Duration::ZERO);
    assert_eq!(compiler.prepare(&constraint, &expired).map(|_| ()), Err(ConstraintError::TooSlow));
    // Neither is remembered.
    compiler.compile(&constraint).expect("compiles");
}

/// A pool without threads of its own, so that the queue does not move.
fn still_pool(config: CompilePoolConfig) -> (CompilePool, videosdgx_text::Compiling) {
    let pool = CompilePool::start(compiler(), CompilePoolConfig { threads: 1, ..config }).expect("starts");
    // Keeps the only thread busy: it is in the queue, or runs for as long as it may.
    let slow = Constraint::Regex(slow_regex(0));
    let running = pool.compile("slow", &slow).expect("queued");
    (pool, running)
}

/// A regular expression that takes a while and is not refused before: many states in sequence.
fn slow_regex(seed: usize) -> String {
    format!("{seed}(a|b)*a(a|b){{14}}c(?:.{{0,90}}x){{0,90}}")
}

#[test]
fn the_queue_is_bounded_and_each_principal_has_a_share() {
    let (pool, _running) =
        still_pool(CompilePoolConfig { queue: 5, share: 2, ..CompilePoolConfig::default() });
    let other = |number: usize| Constraint::Regex(format!("other {number}+"));
    let mut kept = Vec::new();
    let mut outcomes = Vec::new();
    for number in 0..20 {
        match pool.compile("greedy", &Constraint::Regex(slow_regex(number))) {
            Ok(waiting) => kept.push(waiting),
            Err(error) => outcomes.push(error),
        }
    }
    // One may have begun to run in the meantime.
    assert!((2..=3).contains(&kept.len()), "{}", kept.len());
    assert!(outcomes.iter().all(|error| *error == CompileError::ShareUsed { share: 2 }), "{outcomes:?}");
    // Other principals still have space, until the queue is full.
    let others: Vec<_> =
        (0..10).map(|number| pool.compile(&format!("other {number}"), &other(number))).collect();
    assert!(others[0].is_ok());
    assert!(others.iter().any(|other| matches!(other, Err(CompileError::Busy { .. }))), "{others:?}");
    // Whoever leaves frees the place.
    drop((kept, others));
    let waiting = pool.compile("late", &other(99)).expect("space again");
    block_on(waiting).expect("compiles");
}

#[test]
fn a_principal_waits_for_its_own_constraints_only() {
    let config = CompilePoolConfig { threads: 2, ..CompilePoolConfig::default() };
    let pool = CompilePool::start(compiler(), config).expect("starts");
    let greedy: Vec<_> = (0..10)
        .map(|number| pool.compile("greedy", &Constraint::Regex(slow_regex(number))).expect("queued"))
        .collect();
    let start = Instant::now();
    let modest = pool.compile("modest", &Constraint::Regex("(yes|no)".to_owned())).expect("queued");
    block_on(modest).expect("compiles");
    let took = start.elapsed();
    let start = Instant::now();
    drop(greedy);
    // Those that waited are gone at once, those that ran end soon.
    let after = pool.compile("greedy", &Constraint::Regex("(y|n)".to_owned())).expect("queued");
    block_on(after).expect("compiles");
    println!("modest {took:?}, after {:?}", start.elapsed());
    assert!(took < COMPILE_LIMIT, "{took:?}");
    assert!(start.elapsed() < COMPILE_LIMIT, "{:?}", start.elapsed());
}

#[test]
fn a_held_constraint_is_not_compiled_again() {
    let compiler = compiler();
    let pool = CompilePool::start(compiler.clone(), CompilePoolConfig::default()).expect("starts");
    let constraint = |number: usize| Constraint::Regex(format!("{number}(yes|no)"));
    let held = block_on(pool.compile("a", &constraint(0)).expect("queued")).expect("compiles");
    for number in 1..100 {
        compiler.compile(&constraint(number)).expect("compiles");
    }
    assert!(compiler.prepared(&constraint(0)).expect("valid").is_some(), "held");
    assert!(compiler.prepared(&constraint(1)).expect("valid").is_none(), "dropped");
    drop(held);
    // The reason of an invalid constraint is kept as well.
    let invalid = Constraint::Regex("(".to_owned());
    let first = compiler.compile(&invalid).expect_err("invalid");
    assert_eq!(compiler.prepared(&invalid).expect_err("known"), first);
}
