//! llvmpipe, Mesa's driver for CPUs: what its version says.

/// Mesa's first major version whose llvmpipe is not called old.
const CURRENT: u32 = 24;

/// Mesa's version, if the driver is llvmpipe: 22.3.6. `driver` is [`Caps::driver`](super::Caps::driver), such as
/// `llvmpipe Mesa 22.3.6 (LLVM 15.0.6)`.
fn version(driver: &str) -> Option<&str> {
    driver.strip_prefix("llvmpipe Mesa ")?.split_whitespace().next()
}

/// The first number of [`version`].
pub(super) fn major(driver: &str) -> Option<u32> {
    version(driver)?.split('.').next()?.parse().ok()
}

/// What to tell the user of an old Mesa. `wide` is whether the CPU has AVX-512.
pub(super) fn newer_mesa(driver: &str, wide: bool) -> Option<String> {
    let version = version(driver).filter(|_| major(driver).is_some_and(|major| major < CURRENT))?;
    let gain = if wide { "up to twice" } else { "about five times" };
    Some(format!(
        "Mesa {version} is old: a newer one computes {gain} as fast on this CPU. On Debian 12 add `bookworm-backports` \
         to apt's sources, then `apt-get install -t bookworm-backports mesa-vulkan-drivers`"
    ))
}

/// Whether this CPU has AVX-512.
pub(super) fn wide_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::{major, newer_mesa};

    #[test]
    fn an_old_llvmpipe_is_named_and_no_other_driver() {
        let old = "llvmpipe Mesa 22.3.6 (LLVM 15.0.6)";
        let advice = newer_mesa(old, false).unwrap();
        assert!(advice.starts_with("Mesa 22.3.6 is old") && advice.contains("five times as fast"), "{advice}");
        assert!(newer_mesa(old, true).unwrap().contains("twice as fast"));
        assert_eq!(major("llvmpipe Mesa 26.1.6-1~bpo13+1 (LLVM 19.1.7)"), Some(26));
        assert!(newer_mesa("llvmpipe Mesa 23.2.1-1ubuntu3 (LLVM 15.0.7)", false).is_some());
        let current = ["llvmpipe Mesa 26.1.6-1~bpo13+1 (LLVM 19.1.7)", "llvmpipe Mesa 24.0.0"];
        let others = ["radv Mesa 22.3.6", "NVIDIA 580.95", "", "llvmpipe Mesa", "llvmpipe Mesa unknown"];
        for driver in current.into_iter().chain(others) {
            assert_eq!(newer_mesa(driver, false), None, "{driver}");
        }
    }
}
