//! llvmpipe, Mesa's driver for CPUs: what its version says.

/// The first major version of Mesa whose llvmpipe shares loads of one address. Measured are 22.3.6 and 25.0.7, which
/// are slow, and 26.1.6 (benches/runs/2026-11-28-llvmpipe-blocks).
pub(super) const FAST: u32 = 26;

/// Mesa's version, if the driver is llvmpipe: 22.3.6. `driver` is [`Caps::driver`](super::Caps::driver), such as
/// `llvmpipe Mesa 22.3.6 (LLVM 15.0.6)`.
fn version(driver: &str) -> Option<&str> {
    driver.strip_prefix("llvmpipe Mesa ")?.split_whitespace().next()
}

/// The first number of [`version`].
pub(super) fn major(driver: &str) -> Option<u32> {
    version(driver)?.split('.').next()?.parse().ok()
}

/// What to tell the user of an old Mesa. The gain is that of a step of `micro`, with AVX-512 and without
/// (benches/runs/2026-11-30-llvmpipe-whole, 2026-11-28-llvmpipe-blocks).
pub(super) fn newer_mesa(driver: &str) -> Option<String> {
    let version = version(driver).filter(|_| major(driver).is_some_and(|major| major < FAST))?;
    Some(format!(
        "Mesa {version} is slow on a CPU: Mesa {FAST} is about 5 times as fast. On Debian 13 add `trixie-backports` to \
         apt's sources, then `apt-get install -t trixie-backports mesa-vulkan-drivers`. Debian 12 has none, nor \
         have its backports"
    ))
}

#[cfg(test)]
mod tests {
    use super::{major, newer_mesa};

    #[test]
    fn an_old_llvmpipe_is_named_and_no_other_driver() {
        let old = "llvmpipe Mesa 22.3.6 (LLVM 15.0.6)";
        let advice = newer_mesa(old).unwrap();
        assert!(advice.starts_with("Mesa 22.3.6 is slow") && advice.contains("about 5 times as fast"), "{advice}");
        assert_eq!(major("llvmpipe Mesa 26.1.6-1~bpo13+1 (LLVM 19.1.7)"), Some(26));
        assert!(newer_mesa("llvmpipe Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6)").is_some());
        let current = ["llvmpipe Mesa 26.1.6-1~bpo13+1 (LLVM 19.1.7)", "llvmpipe Mesa 26.0.0"];
        let others = ["radv Mesa 22.3.6", "NVIDIA 580.95", "", "llvmpipe Mesa", "llvmpipe Mesa unknown"];
        for driver in current.into_iter().chain(others) {
            assert_eq!(newer_mesa(driver), None, "{driver}");
        }
    }
}
