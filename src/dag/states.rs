//! The state of each node of a run. A node has one state, and one function changes it. Uses nothing
//! of how nodes run.
//!
//! | from | to | when |
//! |---|---|---|
//! | blocked | blocked, ready | a node that it needs was made; the last one was made |
//! | ready | looking up | it is the first node of the plan that is ready |
//! | looking up | queued | the store has no artefact for its key |
//! | queued, busy | busy | another run makes the key |
//! | running | busy | it failed, and is to be tried again |
//! | queued, busy | running | this run has a ticket for the key |
//! | queued, busy | following | a node of the same key is running |
//! | any but ended | ended | it was made, found, skipped or stopped, or it failed |

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::cancellation::Cancellation;
use crate::digest::{ActionKey, ObjectId};
use crate::outcome::NodeOutcome;

/// The state of a node.
pub(super) enum NodeState {
    /// `missing` of the nodes that it needs are not made, at least one. Its key is unknown.
    Blocked { missing: usize },
    /// All nodes that it needs are made, so its key can be computed. The store was not asked for
    /// its artefact.
    Ready,
    /// A thread computes its key and asks the store for its artefact. One node at a time is in
    /// this state, and no node starts meanwhile, so that nodes start in the order of the plan.
    LookingUp,
    /// The store has no artefact for its key. It waits for a place: `jobs`, threads, a GPU, the
    /// gate.
    Queued,
    /// As queued, and nothing is done before `again`: another run makes its key, or it has failed
    /// and is to be tried again.
    Busy { again: Instant },
    /// A thread of this run makes it. It holds the ticket of its key and its resources. No other
    /// running node has this key.
    Running(Running),
    /// The node at position `leader` is running and has the same key. It ends as that node does,
    /// and holds no resources.
    Following { leader: usize },
    /// It has ended. Only the end of the run reads this state.
    Ended(NodeOutcome),
}

/// A node that is being made.
pub(super) struct Running {
    /// Requests its end.
    pub(super) cancellation: Arc<Cancellation>,
    pub(super) key: ActionKey,
    pub(super) held: Held,
    pub(super) start: Instant,
}

/// What a running node holds of the resources of the run.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) threads: usize,
    /// Indices of the GPUs that no other node computes on.
    pub(super) gpus: Vec<usize>,
    /// Bytes of memory; 0 where no estimate is known.
    pub(super) memory: u64,
}

/// A state without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Blocked,
    Ready,
    LookingUp,
    Queued,
    Busy,
    Running,
    Following,
    Ended,
}

const PHASES: usize = 8;

impl NodeState {
    fn phase(&self) -> Phase {
        match self {
            NodeState::Blocked { .. } => Phase::Blocked,
            NodeState::Ready => Phase::Ready,
            NodeState::LookingUp => Phase::LookingUp,
            NodeState::Queued => Phase::Queued,
            NodeState::Busy { .. } => Phase::Busy,
            NodeState::Running(_) => Phase::Running,
            NodeState::Following { .. } => Phase::Following,
            NodeState::Ended(_) => Phase::Ended,
        }
    }
}

impl Phase {
    /// The transitions of the table at the head of this file.
    fn may_become(self, next: Phase) -> bool {
        use Phase::{Blocked, Busy, Ended, Following, LookingUp, Queued, Ready, Running};
        matches!(
            (self, next),
            (Blocked, Blocked | Ready)
                | (Ready, LookingUp)
                | (LookingUp, Queued)
                | (Queued | Busy, Busy | Running | Following)
                | (Running, Busy)
                | (Blocked | Ready | LookingUp | Queued | Busy | Running | Following, Ended)
        )
    }
}

/// The states of all nodes, by position in the topology.
pub(super) struct States {
    nodes: Vec<NodeState>,
    /// For each phase, the positions of the nodes in it: only [`States::set`] changes them, so that
    /// nothing is scanned to find the nodes of a phase, or to count them.
    positions: [BTreeSet<usize>; PHASES],
}

impl States {
    /// The states at the beginning of a run, given how many nodes each node needs.
    pub(super) fn new(needs: impl Iterator<Item = usize>) -> Self {
        let start = |missing| match missing {
            0 => NodeState::Ready,
            missing => NodeState::Blocked { missing },
        };
        let nodes: Vec<NodeState> = needs.map(start).collect();
        let mut positions: [BTreeSet<usize>; PHASES] = Default::default();
        for (at, state) in nodes.iter().enumerate() {
            positions[state.phase() as usize].insert(at);
        }
        States { nodes, positions }
    }

    /// Changes the state of a node; returns the one before.
    ///
    /// # Panics
    /// At a transition that is not in the table at the head of this file.
    pub(super) fn set(&mut self, at: usize, state: NodeState) -> NodeState {
        let (from, to) = (self.nodes[at].phase(), state.phase());
        assert!(from.may_become(to), "node {at} cannot become {to:?}: it is {from:?}");
        self.positions[from as usize].remove(&at);
        self.positions[to as usize].insert(at);
        std::mem::replace(&mut self.nodes[at], state)
    }

    /// A needed node was made: the state of one that needs it.
    pub(super) fn one_less_missing(&mut self, at: usize) {
        let NodeState::Blocked { missing } = self.nodes[at] else {
            unreachable!("a node that needs another is blocked until that is made")
        };
        let state = match missing - 1 {
            0 => NodeState::Ready,
            missing => NodeState::Blocked { missing },
        };
        self.set(at, state);
    }

    /// How many nodes are in a phase.
    pub(super) fn count(&self, phase: Phase) -> usize {
        self.positions[phase as usize].len()
    }

    /// The first node in a phase.
    pub(super) fn first(&self, phase: Phase) -> Option<usize> {
        self.positions[phase as usize].first().copied()
    }

    /// The positions of the nodes in a phase, ascending.
    fn all(&self, phase: Phase) -> impl Iterator<Item = usize> + '_ {
        self.positions[phase as usize].iter().copied()
    }

    /// The first position from `from` on of a node that waits for a place.
    pub(super) fn waiting_from(&self, from: usize) -> Option<usize> {
        let first = |phase: Phase| self.positions[phase as usize].range(from..).next().copied();
        first(Phase::Queued).into_iter().chain(first(Phase::Busy)).min()
    }

    /// The running nodes with their positions.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, &Running)> {
        self.all(Phase::Running).map(|at| match &self.nodes[at] {
            NodeState::Running(running) => (at, running),
            _ => unreachable!("its phase is that of a running node"),
        })
    }

    /// The positions of the nodes that follow a running node, ascending.
    pub(super) fn followers(&self, leader: usize) -> Vec<usize> {
        let leads = |at: &usize| match self.nodes[*at] {
            NodeState::Following { leader: own } => own == leader,
            _ => false,
        };
        self.all(Phase::Following).filter(leads).collect()
    }

    /// When a node that waits for another run, or for its next try, is to be looked at again.
    pub(super) fn again(&self, at: usize) -> Option<Instant> {
        match self.nodes[at] {
            NodeState::Busy { again } => Some(again),
            _ => None,
        }
    }

    /// Whether a node has ended.
    pub(super) fn has_ended(&self, at: usize) -> bool {
        self.nodes[at].phase() == Phase::Ended
    }

    /// What a node has made; `None` if it was not made.
    pub(super) fn object(&self, at: usize) -> Option<ObjectId> {
        match &self.nodes[at] {
            NodeState::Ended(outcome) => outcome.object,
            _ => None,
        }
    }

    /// The outcomes of all nodes, by position.
    ///
    /// # Panics
    /// If a node has not ended.
    pub(super) fn into_outcomes(self) -> Vec<NodeOutcome> {
        let outcome = |state| match state {
            NodeState::Ended(outcome) => outcome,
            _ => unreachable!("every node has ended"),
        };
        self.nodes.into_iter().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ending;

    fn ended(object: Option<ObjectId>) -> NodeState {
        NodeState::Ended(NodeOutcome {
            name: "n".into(),
            stage: "s".into(),
            ending: Ending::Cached,
            key: None,
            object,
            failure: None,
            because: None,
            seconds: 0.0,
        })
    }

    #[test]
    fn a_node_is_in_one_phase_and_the_counts_agree() {
        let mut states = States::new([0, 2, 0].into_iter());
        assert_eq!((states.count(Phase::Ready), states.count(Phase::Blocked)), (2, 1));
        states.set(2, NodeState::LookingUp);
        states.set(2, NodeState::Queued);
        states.set(2, NodeState::Busy { again: Instant::now() });
        assert_eq!((states.waiting_from(0), states.waiting_from(3)), (Some(2), None));
        assert!(states.again(2).is_some() && states.again(0).is_none());
        let object = blake3::hash(b"o").into();
        for made in [0, 2] {
            states.set(made, ended(Some(object)));
            states.one_less_missing(1);
        }
        assert_eq!((states.object(0), states.object(1)), (Some(object), None));
        assert_eq!((states.first(Phase::Ready), states.count(Phase::Ready)), (Some(1), 1));
        states.set(1, NodeState::LookingUp);
        states.set(1, NodeState::Queued);
        states.set(1, NodeState::Following { leader: 2 });
        assert_eq!((states.followers(2), states.followers(0)), (vec![1], vec![]));
        states.set(1, ended(None));
        assert_eq!(states.count(Phase::Ended), 3);
        assert_eq!(states.into_outcomes().len(), 3);
    }

    #[test]
    #[should_panic(expected = "node 0 cannot become Queued: it is Ended")]
    fn a_node_that_has_ended_changes_no_more() {
        let mut states = States::new([0].into_iter());
        states.set(0, ended(None));
        states.set(0, NodeState::Queued);
    }

    #[test]
    #[should_panic(expected = "cannot become Following: it is Ready")]
    fn a_node_that_was_not_looked_up_follows_none() {
        let mut states = States::new([0].into_iter());
        states.set(0, NodeState::Following { leader: 0 });
    }
}
