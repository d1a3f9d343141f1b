//! Which branches of guidance are still the same.

use super::Branch;

/// Groups of branches whose activations are equal so far and are computed once.
///
/// Branches differ from where the first of their differences has an effect: the prompt from the first attention to it,
/// isolation from the first attention between the streams, the perturbation from the first perturbed block.
pub(super) struct Lanes {
    /// Branches of each lane, by their index.
    groups: Vec<Vec<usize>>,
}

impl Lanes {
    /// One lane for all of `branches`.
    pub(super) fn new(branches: usize) -> Self {
        Self { groups: vec![(0..branches).collect()] }
    }

    /// Splits the lanes whose branches differ in `key`. Lanes of isolated branches come last. Returns which of the old
    /// lanes each new one continues, if anything changed.
    pub(super) fn split<K: PartialEq>(
        &mut self,
        branches: &[Branch],
        key: impl Fn(&Branch) -> K,
    ) -> Option<Vec<i64>> {
        let mut groups: Vec<(i64, Vec<usize>)> = Vec::new();
        for (old, group) in self.groups.iter().enumerate() {
            let first = groups.len();
            for &branch in group {
                let value = key(&branches[branch]);
                let same = groups[first..].iter_mut().find(|(_, others)| key(&branches[others[0]]) == value);
                match same {
                    Some((_, others)) => others.push(branch),
                    None => groups.push((old as i64, vec![branch])),
                }
            }
        }
        groups.sort_by_key(|(_, group)| group.iter().all(|&branch| branches[branch].isolated));
        let (old, groups): (Vec<i64>, Vec<Vec<usize>>) = groups.into_iter().unzip();
        let changed = groups != self.groups;
        self.groups = groups;
        changed.then_some(old)
    }

    /// `value` of the first branch of each lane.
    pub(super) fn each<T>(&self, branches: &[Branch], value: impl Fn(&Branch) -> T) -> Vec<T> {
        self.groups.iter().map(|group| value(&branches[group[0]])).collect()
    }

    /// Number of lanes that are not isolated.
    pub(super) fn connected(&self, branches: &[Branch]) -> i64 {
        let isolated = self.each(branches, |branch| branch.isolated);
        isolated.iter().filter(|&&isolated| !isolated).count() as i64
    }

    /// The lane of each branch.
    pub(super) fn of_branches(&self) -> Vec<i64> {
        let count = self.groups.iter().map(Vec::len).sum();
        let mut lanes = vec![0; count];
        for (lane, group) in self.groups.iter().enumerate() {
            group.iter().for_each(|&branch| lanes[branch] = lane as i64);
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_part_where_they_differ() {
        let branch = |prompt, perturbed, isolated| Branch { prompt, perturbed, isolated };
        let branches = [
            branch(0, false, false),
            branch(0, false, true),
            branch(1, false, false),
            branch(0, true, false),
        ];
        let mut lanes = Lanes::new(4);
        assert_eq!(lanes.split(&branches, |branch| branch.prompt), Some(vec![0, 0]));
        assert_eq!(lanes.each(&branches, |branch| branch.prompt), [0, 1]);
        assert_eq!(lanes.split(&branches, |branch| branch.isolated), Some(vec![0, 1, 0]));
        assert_eq!((lanes.connected(&branches), lanes.of_branches()), (2, vec![0, 2, 1, 0]));
        assert_eq!(lanes.split(&branches, |branch| branch.isolated), None);
        assert_eq!(lanes.split(&branches, |branch| branch.perturbed), Some(vec![0, 0, 1, 2]));
        assert_eq!(lanes.each(&branches, |branch| branch.perturbed), [false, true, false, false]);
        assert_eq!((lanes.connected(&branches), lanes.of_branches()), (3, vec![0, 3, 2, 1]));
    }
}
