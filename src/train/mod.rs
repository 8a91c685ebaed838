//! Data, masks, schedule, the loop and its records.
