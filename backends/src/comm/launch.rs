//! Detection of the launcher that started this process.

use super::error::CommError;

/// Rank and launcher of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Rank of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Rank among the processes of this machine: the index of its GPU.
    pub local_rank: usize,
    pub(super) by: Launcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Launcher {
    /// Without a launcher.
    Nobody,
    /// By `mpirun` or `srun`.
    Mpi,
    /// By `--gpus`, torchrun, or anything else that sets `RANK` and `WORLD_SIZE`.
    Environment,
}

/// Environment variables of MPI launchers: rank, number of ranks, rank on this machine.
const MPI_VARIABLES: [[&str; 3]; 3] = [
    // Open MPI.
    [
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ],
    // MPICH, Intel MPI, and Slurm's pmi2.
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"],
    // Slurm with --mpi=pmix.
    ["PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"],
];

const VARIABLES: [&str; 3] = ["RANK", "WORLD_SIZE", "LOCAL_RANK"];

impl Launch {
    /// Reads the launcher's environment variables. Fails if one is not a number or contradicts the others.
    pub fn detect() -> Result<Self, CommError> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    /// Whether a launcher started this process.
    pub fn is_launched(&self) -> bool {
        self.by != Launcher::Nobody
    }

    pub(super) fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, CommError> {
        let set = |names: &[&str; 3]| get(names[0]).is_some() && get(names[1]).is_some();
        let (names, by) = match MPI_VARIABLES.into_iter().find(set) {
            _ if set(&VARIABLES) => (VARIABLES, Launcher::Environment),
            Some(names) => (names, Launcher::Mpi),
            None => {
                return Ok(Self {
                    rank: 0,
                    world_size: 1,
                    local_rank: 0,
                    by: Launcher::Nobody,
                });
            }
        };
        let wrong = |name, value, reason| CommError::Launcher {
            name,
            value,
            reason,
        };
        let number = |name: &'static str| match get(name) {
            None => Ok(0),
            Some(value) => match value.parse::<usize>() {
                Ok(number) => Ok(number),
                Err(_) => Err(wrong(name, value, "it must be a number from 0")),
            },
        };
        let (rank, world_size) = (number(names[0])?, number(names[1])?);
        if rank >= world_size {
            let value = rank.to_string();
            return Err(wrong(
                names[0],
                value,
                "it must be less than the number of ranks",
            ));
        }
        Ok(Self {
            rank,
            world_size,
            local_rank: number(names[2])?,
            by,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Launch, CommError> {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        };
        Launch::from_variables(&get)
    }

    #[test]
    fn every_launcher_is_known() {
        let torchrun = [("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")];
        let found = launch(&torchrun).unwrap();
        assert_eq!((found.rank, found.world_size, found.local_rank), (5, 8, 1));
        for names in MPI_VARIABLES {
            let found = launch(&[(names[0], "2"), (names[1], "4"), (names[2], "1")]).unwrap();
            assert_eq!((found.rank, found.world_size, found.local_rank), (2, 4, 1));
            assert_eq!(found.by, Launcher::Mpi);
        }
        // A variable of Slurm's job outside of srun does not mean that there are several processes.
        assert_eq!(launch(&[("SLURM_LOCALID", "0")]).unwrap().world_size, 1);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let error = launch(&[("RANK", "x"), ("WORLD_SIZE", "2")]).unwrap_err();
        assert!(error.to_string().contains("RANK=x"), "{error}");
        let error = launch(&[("RANK", "2"), ("WORLD_SIZE", "2")]).unwrap_err();
        assert!(error.to_string().contains("less than"), "{error}");
    }
}
