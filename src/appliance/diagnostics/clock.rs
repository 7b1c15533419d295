//! The processor's clock.

use std::path::Path;

use serde::Serialize;

/// What the kernel's cpufreq says of the processor's clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Clock {
    /// At this moment.
    pub mhz: u32,
    /// The fastest it can be.
    pub max_mhz: Option<u32>,
    /// Who chooses: `ondemand`, `powersave` …
    pub governor: Option<String>,
}

/// What is said in that folder of the first processor's.
pub(super) fn read(folder: &Path) -> Option<Clock> {
    let text = |name: &str| super::read(&folder.join(name));
    // In kHz.
    let mhz = |name: &str| text(name)?.parse::<u32>().ok().map(|khz| khz / 1000);
    let governor = text("scaling_governor").filter(|name| name.len() <= 32 && !name.contains(char::is_control));
    Some(Clock { mhz: mhz("scaling_cur_freq")?, max_mhz: mhz("cpuinfo_max_freq"), governor })
}
