//! The table in benches/support/README.md, and the reports that it is made from.

use std::path::Path;

use rowscan::bench::ops;
use rowscan::bench::runner::support::{SupportReport, with_table};

#[test]
fn the_table_of_support_is_made_from_the_reports() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support");
    let page = std::fs::read_to_string(folder.join("README.md")).expect("the page");
    let made = with_table(&page, &folder).unwrap_or_else(|e| panic!("{e}")).expect("the page has its marks");
    if std::env::var("ROWSCAN_ACCEPT").is_ok_and(|v| v == "1") {
        return std::fs::write(folder.join("README.md"), made).expect("the page can be written");
    }
    assert!(
        made == page,
        "benches/support/README.md is not of these reports: ROWSCAN_ACCEPT=1 with this test writes it"
    );
}

#[test]
fn every_report_is_of_all_families() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support");
    let mut reports = 0;
    for entry in std::fs::read_dir(folder).expect("benches/support") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        let report = SupportReport::read(&path).unwrap_or_else(|e| panic!("{e}"));
        for tier in &report.tiers {
            let missing: Vec<_> = ops::ALL.iter().filter(|(name, _)| !tier.families.contains_key(*name)).collect();
            // a family that came later than the report is missing from it; half of them are not
            assert!(missing.len() * 2 < ops::ALL.len(), "{}, {}: without {missing:?}", path.display(), tier.tier);
        }
        reports += 1;
    }
    assert!(reports > 0);
}
