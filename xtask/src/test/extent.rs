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

    /// The time that a suite may take on two cores; none where it takes hours.
    pub(super) fn share(self, suite: Suite) -> Option<Duration> {
        let seconds = match (self, suite) {
            (Self::Large, _) => return None,
            (Self::Quick, Suite::Python) => 115,
            (Self::Quick, Suite::Comfyui) => 250,
            (Self::Quick, Suite::Graphs) => 45,
            (Self::Quick, Suite::Browser) | (_, Suite::Full) => 95,
            (_, Suite::Tidy | Suite::Web) => 10,
            (_, Suite::Targets) => 20,
            (_, Suite::Windows) => 55,
            (_, Suite::Walk) => 70,
            (_, Suite::Rust | Suite::Archive) => 115,
            (_, Suite::Upstream) => 120,
            (_, Suite::Meter) => 135,
            (_, Suite::Soak) => 160,
            (_, Suite::Browser) => 180,
            (_, Suite::Graphs) => 210,
            (_, Suite::Python) => 305,
            (_, Suite::Matrix) => 345,
            (_, Suite::Comfyui) => 690,
        };
        Some(Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// A quick run has 12 minutes and a full one 45, the set-up among them.
    #[test]
    fn the_shares_leave_time_for_the_set_up() {
        for (extent, minutes) in [(Extent::Quick, 12), (Extent::All, 45)] {
            let suites = extent.suites(Suite::value_variants());
            let shares: Duration = suites.into_iter().filter_map(|suite| extent.share(suite)).sum();
            assert!(
                shares + Duration::from_secs(60) <= Duration::from_secs(minutes * 60),
                "{shares:?}"
            );
        }
    }
}
