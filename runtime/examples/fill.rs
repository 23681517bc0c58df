//! How long the runtime takes to make and fill a policy's tables in the kernel: each map created, filled,
//! closed to writing and read back, as an apply does.
//!
//! `fill ARTIFACT RUNS` prints the milliseconds of each run. Needs the rights that `meshc apply` needs.

use std::process::ExitCode;
use std::time::Instant;

use mesh_bpf::artifact;
use mesh_bpf::map::{self, Table};
use mesh_bpf::tables::Tables;
use mesh_runtime::Kernel;
use mesh_runtime::system::{Maps, SysResult};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(Ok(runs))) = (args.next(), args.next().map(|runs| runs.parse::<usize>())) else {
        eprintln!("fill ARTIFACT RUNS");
        return ExitCode::from(2);
    };
    let Ok(bytes) = std::fs::read(&file) else { return failed(&format!("cannot read `{file}`")) };
    let tables = match artifact::decode(&bytes) {
        Ok((tables, _)) => tables,
        Err(error) => return failed(&error.to_string()),
    };
    for _ in 0..runs {
        let began = Instant::now();
        match fill(&Kernel::new(), &tables) {
            Ok(true) => println!("{}", began.elapsed().as_secs_f64() * 1000.0),
            Ok(false) => return failed("a table reads back differently"),
            Err(cause) => return failed(&cause.to_string()),
        }
    }
    ExitCode::SUCCESS
}

fn failed(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}

fn fill(kernel: &Kernel, tables: &Tables) -> SysResult<bool> {
    let mut intact = true;
    for table in Table::ALL {
        let data = tables.get(table);
        let lines = u32::try_from(data.line_count()).unwrap_or(u32::MAX);
        let map = kernel.create_map(&map::INNER, lines, None)?;
        kernel.fill(&map, data.padded())?;
        kernel.freeze(&map)?;
        intact &= kernel.holds(&map, data.padded())?;
    }
    Ok(intact)
}
