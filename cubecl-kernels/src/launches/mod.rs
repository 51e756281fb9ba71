//! Recordings of GPU launches: the kernel of each launch, its problem, and its time on the device.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod observer;
mod record;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) use observer::{Problem, problem};

pub use record::{Launch, LaunchTime};

/// Records the launches of all threads of this process until it is dropped.
///
/// Each launch is timed: on CUDA by two events in its stream, on wgpu by a submission of its own. The replay of a graph
/// has no launches. Candidates of tuning are recorded like other launches, so start the recording after tuning.
#[derive(Debug)]
pub struct LaunchRecording {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    observation: observer::Observation,
}

impl LaunchRecording {
    /// Starts to record.
    ///
    /// # Panics
    /// If there is a recording already.
    #[allow(clippy::new_without_default, reason = "it has an effect")]
    pub fn start() -> Self {
        Self {
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            observation: observer::Observation::start(),
        }
    }

    /// Reads the measurements so far, which occupy memory of the device. Call it when the device has finished its work
    /// ([`Device::sync`](burn::tensor::Device::sync)); otherwise it waits.
    pub fn read(&mut self) {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        self.observation.read();
    }

    /// Stops, reads, and returns the launches in their order. Empty without a GPU.
    pub fn finish(self) -> Vec<Launch> {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        return self.observation.finish();
        #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
        Vec::new()
    }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;
    use crate::test_gpu::{self, values, whole_numbers};
    use burn::tensor::DType;
    use burn_cubecl::ops::numeric::add_scalar;
    use cubecl::prelude::InputScalar;

    #[test]
    fn launches_are_recorded_with_their_problems() {
        let Some((selected, device)) = test_gpu::open() else {
            return;
        };
        let input = whole_numbers([1, 2, 3, 4], 1, &device, DType::F32);
        let add = || {
            add_scalar(
                input.clone(),
                InputScalar::new(
                    1.0f32,
                    cubecl::ir::ElemType::Float(cubecl::ir::FloatKind::F32),
                ),
            )
        };
        let before = values(add());
        let mut recording = LaunchRecording::start();
        {
            let _problem = problem(|| "outer".into());
            let _inner = problem(|| "inner".into());
            add();
        }
        recording.read();
        let after = add();
        selected.device.sync().expect("the device works");
        let launches = recording.finish();
        assert_eq!(values(after), before);
        // Other tests of this process launch kernels meanwhile.
        let problems = |wanted: Option<&str>| {
            let is_wanted = |launch: &&Launch| launch.problem.as_deref() == wanted;
            launches.iter().filter(is_wanted).count()
        };
        assert_eq!(problems(Some("inner")), 1, "{launches:?}");
        assert_eq!(problems(Some("outer")), 0, "{launches:?}");
        assert!(problems(None) >= 1, "{launches:?}");
        for Launch { kernel, time, .. } in &launches {
            assert!(!kernel.contains(['<', ':']), "{kernel}");
            assert!(
                time.is_none_or(|time| time.end >= time.start),
                "{launches:?}"
            );
        }
        assert!(std::panic::catch_unwind(two_recordings).is_err());
        // The one that panicked has ended, too.
        let recording = LaunchRecording::start();
        add();
        let launches = recording.finish();
        let has_name = |name: &str| {
            launches
                .iter()
                .any(|launch| launch.problem.as_deref() == Some(name))
        };
        assert!(
            !launches.is_empty() && !has_name("inner") && !has_name("outer"),
            "{launches:?}"
        );
    }

    fn two_recordings() {
        let _first = LaunchRecording::start();
        LaunchRecording::start();
    }
}
