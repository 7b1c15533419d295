//! Buffers there is no memory for: how much was wanted, how much there is, the remedy.

use std::fmt;

/// The contiguous memory that cameras and encoders of small boards take their buffers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cma {
    /// Bytes in all.
    pub total: u64,
    /// Bytes free.
    pub free: u64,
}

impl Cma {
    /// What the kernel reports now; `None` where there is no such memory.
    pub fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(meminfo: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        let total = bytes("CmaTotal").filter(|total| *total > 0)?;
        Some(Self { total, free: bytes("CmaFree").unwrap_or(0) })
    }
}

/// Buffers there was no memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// How many.
    pub count: u64,
    /// How large each is.
    pub bytes: u64,
    /// What they come out of, if that is known.
    pub cma: Option<Cma>,
}

impl Shortage {
    /// A shortage of `count` buffers of `bytes` each, with what the kernel reports of its memory now.
    pub fn now(count: usize, bytes: usize) -> Self {
        Self { count: count as u64, bytes: bytes as u64, cma: Cma::now() }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| (bytes as f64 / 104_857.6).round() / 10.0;
        let Self { count, bytes, cma } = *self;
        if count == 1 {
            write!(f, "there is no memory for a buffer of {} MB", mb(bytes))?;
        } else {
            write!(f, "there is no memory for {count} buffers of {} MB, {} MB in all", mb(bytes), mb(bytes * count))?;
        }
        if let Some(Cma { total, free }) = cma {
            write!(f, ", in the {} MB of contiguous memory (CMA), of which {} MB are free", mb(total), mb(free))?;
        }
        f.write_str(": set a smaller camera.resolution")?;
        // The least that the configuration allows.
        if count > 2 && cma.is_none_or(|cma| bytes * 2 <= cma.total) {
            f.write_str(", or camera.buffer_count to 2")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn what_was_wanted_is_set_against_what_there_is() {
        let meminfo = "MemTotal:  440320 kB\nCmaTotal:    65536 kB\nCmaFree:     10240 kB\nCmaTotalled: 1 kB\n";
        let cma = Cma::parse(meminfo);
        assert_eq!(cma, Some(Cma { total: 64 * MB, free: 10 * MB }));
        let shortage = Shortage { count: 4, bytes: 24 * MB, cma };
        assert_eq!(
            shortage.to_string(),
            "there is no memory for 4 buffers of 24 MB, 96 MB in all, in the 64 MB of contiguous memory (CMA), of which \
             10 MB are free: set a smaller camera.resolution, or camera.buffer_count to 2"
        );
        let larger = Shortage { count: 2, bytes: 48 * MB, cma };
        assert!(larger.to_string().ends_with("set a smaller camera.resolution"), "{larger}");
    }

    #[test]
    fn a_machine_without_such_memory_is_told_apart() {
        for meminfo in ["MemTotal: 1 kB\n", "CmaTotal:  0 kB\nCmaFree: 0 kB\n", "CmaTotal: x kB\n", ""] {
            assert_eq!(Cma::parse(meminfo), None, "{meminfo:?}");
        }
        let text = Shortage { count: 3, bytes: 1_400_000, cma: None }.to_string();
        assert_eq!(
            text,
            "there is no memory for 3 buffers of 1.3 MB, 4 MB in all: set a smaller camera.resolution, or \
             camera.buffer_count to 2"
        );
        let text = Shortage { count: 1, bytes: 160 * MB, cma: None }.to_string();
        assert_eq!(text, "there is no memory for a buffer of 160 MB: set a smaller camera.resolution");
    }
}
