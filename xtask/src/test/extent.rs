//! How much is run, and each suite's share of the time.

use std::time::Duration;

use super::Suite;

/// Handed to the tests as `MEMSWEEP_EXTENT`; see `tests/extent.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// What everybody runs before a commit.
    Quick,
    /// What CI runs.
    All,
    /// All of it in sizes that take hours.
    Large,
}

/// What a quick run leaves out takes long, or is about systems other than this machine.
const QUICK: [Suite; 7] = [
    Suite::Rust,
    Suite::Tidy,
    Suite::Web,
    Suite::Python,
    Suite::Comfyui,
    Suite::Graphs,
    Suite::Browser,
];

impl Extent {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::All => "all",
            Self::Large => "large",
        }
    }

    /// The suites of this extent, in the order they run in.
    pub(super) fn suites(self, all: &[Suite]) -> Vec<Suite> {
        match self {
            Self::Quick => QUICK.to_vec(),
            Self::All | Self::Large => all.to_vec(),
        }
    }

    /// The time that a suite may take on two cores. Nobody is held to it where it takes hours.
    pub(super) fn share(self, suite: Suite) -> Option<Duration> {
        let seconds = match (self, suite) {
            (Self::Large, _) => return None,
            (_, Suite::Rust) => 150,
            (_, Suite::Tidy | Suite::Web) => 30,
            (Self::Quick, Suite::Python) => 100,
            (Self::Quick, Suite::Comfyui) => 300,
            (Self::Quick, Suite::Graphs) => 60,
            (_, Suite::Browser) => 90,
            (_, Suite::Targets | Suite::Meter | Suite::Upstream | Suite::Full) => 90,
            (_, Suite::Windows | Suite::Walk | Suite::Archive | Suite::Soak) => 150,
            (_, Suite::Graphs | Suite::Matrix) => 300,
            (_, Suite::Python) => 300,
            (_, Suite::Comfyui) => 600,
        };
        Some(Duration::from_secs(seconds))
    }
}
