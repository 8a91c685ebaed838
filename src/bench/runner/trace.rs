//! Launch times as a Chrome trace, for chrome://tracing and Perfetto (PyTorch: `profiler.export_chrome_trace`).
//!
//! Forward pass, backward pass and update have a track each. A launch is a slice named after its kernel, inside the
//! slice of its module. Times are microseconds from the start of the first launch.

use serde_json::{Value, json};

use super::roof::Roof;
use crate::gpu::{LaunchTime, Phase};

const TRACKS: [(Phase, &str); 3] =
    [(Phase::Forward, "forward"), (Phase::Backward, "backward"), (Phase::Update, "update")];

/// Content of a `.json` trace file. `title` is the name of the process in it.
pub fn chrome_trace(title: &str, times: &[LaunchTime], roof: &Roof) -> Value {
    let mut events = vec![json!({ "ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": { "name": title } })];
    for (track, (_, name)) in TRACKS.iter().enumerate() {
        let args = json!({ "name": name });
        events.push(json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": track + 1, "args": args }));
        events.push(json!({
            "ph": "M", "name": "thread_sort_index", "pid": 1, "tid": track + 1, "args": { "sort_index": track },
        }));
    }
    let mut end = 0; // launches may overlap a little, slices of one track may not: the next one begins here
    let mut at = 0;
    for module in times.chunk_by(|a, b| (a.phase, &a.scope) == (b.phase, &b.scope)) {
        let track = 1 + TRACKS.iter().position(|(phase, _)| *phase == module[0].phase).unwrap_or_default();
        let slice = |name: &str, category: &str, from: u64, to: u64, args: Value| {
            let (ts, dur) = (from as f64 / 1e3, (to - from) as f64 / 1e3);
            let at = (track, ts, dur);
            json!({
                "ph": "X", "name": name, "cat": category, "pid": 1, "tid": at.0, "ts": at.1, "dur": at.2, "args": args,
            })
        };
        let begin = module[0].begin.max(end);
        let mut launches = Vec::new();
        for time in module {
            let from = time.begin.max(end);
            end = end.max(time.begin + time.ns);
            let floor = roof.floor(time.work);
            let args = json!({
                "scope": &*time.scope, "launch": at, "ns": time.ns, "bytes": time.work.bytes, "flops": time.work.flops,
                "floor_ratio": time.ns as f64 / 1e9 / floor.max(1e-12),
            });
            launches.push(slice(time.name, "launch", from.min(end), end, args));
            at += 1;
        }
        let name = if module[0].scope.is_empty() { "(no module)" } else { &module[0].scope };
        events.push(slice(name, "module", begin, end, json!({ "launches": module.len() })));
        events.append(&mut launches);
    }
    json!({ "displayTimeUnit": "ns", "traceEvents": events })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Work;

    #[test]
    fn modules_enclose_their_launches_on_the_track_of_their_phase() {
        let time = |name, scope: &str, phase, begin, ns| LaunchTime {
            name,
            scope: scope.into(),
            phase,
            begin,
            ns,
            work: Work::bytes(1000),
        };
        let times = [
            time("matmul.tiled", "layers.0", Phase::Forward, 0, 400),
            time("conv1d.forward", "layers.0", Phase::Forward, 390, 110), // overlaps the launch before it by 10 ns
            time("reduce.sum", "", Phase::Forward, 600, 50),
            time("matmul.tiled", "layers.0", Phase::Backward, 700, 300),
            time("adamw.step", "", Phase::Update, 1000, 200),
        ];
        let roof = Roof { copy: 1e10, gemm: 1e12, fma: 1e12, exp: 1e10 };
        let trace = chrome_trace("made up", &times, &roof);
        let events = trace["traceEvents"].as_array().unwrap();
        let of = |cat: &str| events.iter().filter(|e| e["cat"] == cat).collect::<Vec<_>>();
        let (modules, launches) = (of("module"), of("launch"));
        assert_eq!((modules.len(), launches.len()), (4, 5));
        assert_eq!((&modules[0]["name"], &modules[1]["name"]), (&json!("layers.0"), &json!("(no module)")));
        assert_eq!(launches.iter().map(|e| e["tid"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 1, 1, 2, 3]);
        assert_eq!(launches[0]["args"]["floor_ratio"].as_f64().unwrap(), 4.0);
        let span = |e: &Value| {
            let (ts, dur) = (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap());
            ((ts * 1e3).round() as u64, ((ts + dur) * 1e3).round() as u64)
        };
        assert_eq!((span(modules[0]), span(launches[0]), span(launches[1])), ((0, 500), (0, 400), (400, 500)));
        for pair in launches.windows(2).filter(|pair| pair[0]["tid"] == pair[1]["tid"]) {
            assert!(span(pair[0]).1 <= span(pair[1]).0, "slices of a track overlap");
        }
    }
}
