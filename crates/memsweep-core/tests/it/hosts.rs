//! Simulated hosts: honest, lying, failing, blind and scripted ones.

use memsweep_core::action::{Action, Outcome};
use memsweep_core::bytes::Bytes;
use memsweep_core::reading::{DeviceMemory, DriverView, ProcessMemory, Reading, SCHEMA, TorchView};
use memsweep_core::rest::Child;
use memsweep_core::sweep::Host;

/// What a release does to a host's world.
type Release = Box<dyn FnMut(&mut World, &Action) -> Outcome>;

/// Memory as the readings show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) ram: Option<u64>,
    pub(crate) device: Option<u64>,
    /// What torch says of this process there.
    pub(crate) ours_on_device: Option<u64>,
    pub(crate) seconds: Option<f64>,
    /// Every action that reached the host, in order.
    pub(crate) released: Vec<Action>,
}

impl World {
    /// Takes this much away, or all there is if that is less.
    pub(crate) fn give_back(&mut self, ram: u64, device: u64) {
        self.ram = self.ram.map(|bytes| bytes.saturating_sub(ram));
        self.device = self.device.map(|bytes| bytes.saturating_sub(device));
    }
}

/// A host made of a world and what releasing does to it.
pub(crate) struct FakeHost {
    pub(crate) world: World,
    pub(crate) reads: usize,
    release: Release,
}

impl FakeHost {
    /// 4 GiB of RAM and 2 GiB on a device, and the given behaviour.
    pub(crate) fn new(release: impl FnMut(&mut World, &Action) -> Outcome + 'static) -> Self {
        let world = World {
            ram: Some(4 << 30),
            device: Some(2 << 30),
            ours_on_device: None,
            seconds: Some(0.0),
            released: Vec::new(),
        };
        Self { world, reads: 0, release: Box::new(release) }
    }

    /// Gives back 100 MiB of RAM and of the device at every step, and says so.
    pub(crate) fn honest() -> Self {
        Self::new(|world, _| {
            world.give_back(100 << 20, 100 << 20);
            Outcome::Done { claimed: Some(Bytes::from_mib(100)), detail: None }
        })
    }

    /// The same, but nothing can be read.
    pub(crate) fn blind() -> Self {
        let mut host = Self::honest();
        host.world = World::default();
        host
    }
}

impl Host for FakeHost {
    fn read(&mut self) -> Reading {
        self.reads += 1;
        // Half a second passes with every step.
        let seconds = self.world.seconds.map(|start| start + 0.5 * (self.reads - 1) as f64);
        let device = self.world.device.map(|used| DeviceMemory {
            id: "cuda:0".to_owned(),
            total: Some(Bytes(8 << 30)),
            driver: DriverView { used: Some(Bytes(used)), ..DriverView::default() },
            torch: TorchView {
                allocated: self.world.ours_on_device.map(Bytes),
                ..TorchView::default()
            },
            ..DeviceMemory::default()
        });
        Reading {
            schema: SCHEMA,
            seconds,
            process: ProcessMemory {
                resident: self.world.ram.map(Bytes),
                anonymous: self.world.ram.map(Bytes),
                ..ProcessMemory::default()
            },
            devices: device.into_iter().collect(),
            ..Reading::default()
        }
    }

    fn release(&mut self, action: &Action) -> Outcome {
        self.world.released.push(action.clone());
        (self.release)(&mut self.world, action)
    }
}

/// Answers from lists, and repeats the last reading when they run out.
#[derive(Debug)]
pub(crate) struct Scripted {
    readings: Vec<Reading>,
    outcomes: Vec<Outcome>,
    pub(crate) children: Vec<Child>,
    read: usize,
    released: usize,
}

impl Scripted {
    pub(crate) fn new(readings: Vec<Reading>, outcomes: Vec<Outcome>) -> Self {
        Self { readings, outcomes, children: Vec::new(), read: 0, released: 0 }
    }
}

impl Host for Scripted {
    fn read(&mut self) -> Reading {
        let at = self.read.min(self.readings.len().saturating_sub(1));
        self.read += 1;
        self.readings.get(at).cloned().unwrap_or_default()
    }

    fn release(&mut self, _: &Action) -> Outcome {
        let outcome = self.outcomes.get(self.released).cloned().unwrap_or_else(Outcome::done);
        self.released += 1;
        outcome
    }

    fn children(&mut self) -> Vec<Child> {
        std::mem::take(&mut self.children)
    }
}
