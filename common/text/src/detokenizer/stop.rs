//! Search for stop strings, byte by byte (Aho-Corasick automaton, 1975).

use std::collections::{BTreeMap, VecDeque};

/// The automaton of all stop strings.
#[derive(Debug)]
pub(super) struct StopStrings {
    nodes: Vec<Node>,
}

/// State of the automaton.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StopState(usize);

#[derive(Debug, Default)]
struct Node {
    next: BTreeMap<u8, usize>,
    /// Node of the longest proper suffix that is a prefix of a stop string.
    fail: usize,
    depth: usize,
    /// Index and length of the longest stop string that ends here.
    ends: Option<(usize, usize)>,
}

impl StopStrings {
    pub(super) fn new(strings: &[String]) -> Self {
        let mut nodes = vec![Node::default()];
        for (number, string) in strings.iter().enumerate().filter(|(_, string)| !string.is_empty()) {
            let mut at = 0;
            for (depth, byte) in (1..).zip(string.bytes()) {
                at = match nodes[at].next.get(&byte) {
                    Some(next) => *next,
                    None => {
                        nodes.push(Node { depth, ..Node::default() });
                        let new = nodes.len() - 1;
                        nodes[at].next.insert(byte, new);
                        new
                    }
                };
            }
            nodes[at].ends.get_or_insert((number, string.len()));
        }
        let mut queue: VecDeque<usize> = nodes[0].next.values().copied().collect();
        while let Some(at) = queue.pop_front() {
            let children: Vec<(u8, usize)> =
                nodes[at].next.iter().map(|(byte, child)| (*byte, *child)).collect();
            for (byte, child) in children {
                let fail = advance(&nodes, nodes[at].fail, byte);
                nodes[child].fail = fail;
                nodes[child].ends = nodes[child].ends.or(nodes[fail].ends);
                queue.push_back(child);
            }
        }
        Self { nodes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Advances by one byte; returns index and length of the longest stop string that ends with it.
    pub(super) fn step(&self, state: &mut StopState, byte: u8) -> Option<(usize, usize)> {
        state.0 = advance(&self.nodes, state.0, byte);
        self.nodes[state.0].ends
    }

    /// Length of the longest suffix of the input that is a prefix of a stop string.
    pub(super) fn held(&self, state: &StopState) -> usize {
        self.nodes[state.0].depth
    }
}

fn advance(nodes: &[Node], mut at: usize, byte: u8) -> usize {
    loop {
        match nodes[at].next.get(&byte) {
            Some(next) => return *next,
            None if at == 0 => return 0,
            None => at = nodes[at].fail,
        }
    }
}
