//! Whatever is wrong with driver or device is an error that says so, never a panic. Tested on the emulated driver, whose properties can be set.

use std::process::Command;

use crate::common::package;
use mlic_backend::contract::is_required;
use mlic_backend::{Backend, Stage};
use mlic_core::schedule::LatentSize;
use mlic_cuda::{CudaBackend, Options};

/// The variable that makes the test `child` say what it finds of the device.
const CHILD: &str = "MLIC_TEST_CHILD";

fn report() -> String {
    let backend = match CudaBackend::new(package("tiny"), Options::default()) {
        Ok(backend) => backend,
        Err(error) => return format!("refused: {error}"),
    };
    let sizes = [(64, 64), (1024, 1024), (64, 64)].map(|(width, height)| LatentSize::of_image(width, height).unwrap());
    let run = |size: &LatentSize| {
        let z = vec![0; size.z[0] * size.z[1] * 16];
        backend.entropy(*size, 0, &z).map_or_else(|e| format!("{e}"), |_| "done".to_owned())
    };
    format!("{}: {}", backend.device(Stage::Passes), sizes.iter().map(run).collect::<Vec<_>>().join("; "))
}

#[test]
fn child() {
    if std::env::var_os(CHILD).is_some() {
        println!("<{}>", report());
    }
}

/// Runs [`report`] in a process of its own, with these environment variables, so that the driver is another one.
fn with(settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["no_device::child", "--exact", "--nocapture"]).env(CHILD, "1").envs(settings.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.split('<').nth(1).and_then(|rest| rest.split('>').next()).unwrap().to_owned()
}

fn is_emulated() -> bool {
    let there = with(&[]).contains("emulated");
    assert!(there || !is_required("emulated"), "the emulated driver is required and not there");
    if !there {
        eprintln!("not run: needs the emulated driver");
    }
    there
}

#[test]
fn a_missing_driver_is_refused() {
    // A folder that does not exist, and no other: the child finds no library at all, unless a real one is installed.
    let text = with(&[("LD_LIBRARY_PATH", "/nonexistent")]);
    assert!(text.contains("no CUDA driver") || !text.contains("emulated"), "{text}");
}

#[test]
fn unusable_devices_are_refused() {
    if !is_emulated() {
        return;
    }
    let refused = |name, value, why: &str| {
        let text = with(&[(name, value)]);
        assert!(text.starts_with("refused: backend cuda is not available") && text.contains(why), "{name}={value}: {text}");
    };
    refused("MLIC_EMULATOR_DRIVER", "11030", "the driver is for CUDA 11.3, 11.4 is needed");
    refused("MLIC_EMULATOR_DEVICES", "0", "the driver does not start: no CUDA-capable device");
    refused("MLIC_EMULATOR_CAPABILITY", "61", "no kernels for emulated, compute capability 6.1");
    refused("MLIC_EMULATOR_MEMORY", "100000", "the model: out of memory");
}

#[test]
fn each_capability_has_its_kernels() {
    if !is_emulated() {
        return;
    }
    for (capability, image) in [
        ("72", "sm_72.cubin, driver for CUDA 12.6, dp4a"),
        ("87", "sm_87.cubin, driver for CUDA 12.6, mma"),
        ("90", "sm_90.cubin, driver for CUDA 12.6, mma"),
        ("120", "compute_80.ptx, driver for CUDA 12.6, mma"),
    ] {
        let text = with(&[("MLIC_EMULATOR_CAPABILITY", capability)]);
        assert!(text.contains(image) && text.ends_with("done; done; done"), "{text}");
    }
}

#[test]
fn an_image_that_the_driver_refuses_gives_way_to_the_next() {
    if !is_emulated() {
        return;
    }
    let run = |capability, cubin, ptx| {
        with(&[("MLIC_EMULATOR_CAPABILITY", capability), ("MLIC_EMULATOR_CUBIN", cubin), ("MLIC_EMULATOR_PTX", ptx)])
    };
    for (capability, cubin, image) in [
        ("87", "209", "image compute_80.ptx (refused: sm_87.cubin: emulated error (CUDA error 209)), driver for CUDA 12.6, mma"),
        ("72", "200", "image compute_72.ptx (refused: sm_72.cubin: emulated error (CUDA error 200)), driver for CUDA 12.6, dp4a"),
        ("90", "801", "image compute_80.ptx (refused: sm_90.cubin: emulated error (CUDA error 801)), driver for CUDA 12.6, mma"),
    ] {
        let text = run(capability, cubin, "0");
        assert!(text.contains(image) && text.ends_with("done; done; done"), "{text}");
    }
    let all = run("87", "209", "222");
    let each =
        ["sm_87.cubin: emulated error (CUDA error 209)", "compute_80.ptx: emulated error (CUDA error 222)", "compute_72.ptx: "];
    assert!(all.starts_with("refused: backend cuda is not available") && all.contains("the kernels do not load"), "{all}");
    assert!(each.iter().all(|image| all.contains(image)), "{all}");
    // An error of the device, and not of the image, is no reason to try another image.
    let broken = run("87", "700", "0");
    assert!(broken.contains("the kernels do not load: sm_87.cubin: emulated error (CUDA error 700)"), "{broken}");
    assert!(!broken.contains("ptx"), "{broken}");
}

#[test]
fn a_full_device_is_an_error_of_the_image_alone() {
    if !is_emulated() {
        return;
    }
    // Room for the model and the smaller picture.
    let text = with(&[("MLIC_EMULATOR_MEMORY", "2100000")]);
    assert!(text.ends_with("done; h_s on cuda: the device has not as much memory as is needed; done"), "{text}");
}
