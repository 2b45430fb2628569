//! The platforms.

/// A kind of processor, and how its programs are run here.
#[derive(Debug, PartialEq, Eq)]
pub struct Platform {
    /// `FAMILY` or `FAMILY-VARIANT`.
    pub name: &'static str,
    /// Rust's name for the target.
    pub target: &'static str,
    /// How its programs are run.
    pub machine: Machine,
    /// What is special about it, for the document.
    pub why: &'static str,
    /// Instruction sets for which the kernels' tests are run there too, the best last. None for this machine, where they are tested without this command.
    pub kernels: &'static [&'static str],
}

/// How programs of a platform are run.
#[derive(Debug, PartialEq, Eq)]
pub enum Machine {
    /// By this machine, with the kernels held to an instruction set (`MLIC_CPU`).
    Native {
        /// Value of `MLIC_CPU`.
        isa: &'static str,
    },
    /// By QEMU's user mode emulation.
    Qemu {
        /// Debian's name of the architecture, whose libraries are linked.
        debian: &'static str,
        /// GNU's name of the architecture: folder of those libraries.
        gnu: &'static str,
        /// QEMU's name of the architecture.
        qemu: &'static str,
        /// QEMU's name of the processor.
        cpu: &'static str,
    },
    /// By wasmtime.
    Wasmtime,
}

const fn native(name: &'static str, isa: &'static str, why: &'static str) -> Platform {
    Platform { name, target: "x86_64-unknown-linux-gnu", machine: Machine::Native { isa }, why, kernels: &[] }
}

const fn aarch64(name: &'static str, cpu: &'static str, kernels: &'static [&'static str], why: &'static str) -> Platform {
    let machine = Machine::Qemu { debian: "arm64", gnu: "aarch64-linux-gnu", qemu: "aarch64", cpu };
    Platform { name, target: "aarch64-unknown-linux-gnu", machine, why, kernels }
}

/// All platforms.
pub const PLATFORMS: [Platform; 13] = [
    native("x86_64-scalar", "scalar", "no instruction set beyond the base"),
    native("x86_64-avx2", "avx2", "256-bit integers"),
    native("x86_64-avxvnni", "avxvnni", "256-bit integers with dot products"),
    native("x86_64-avx512vnni", "avx512vnni", "512-bit integers with dot products"),
    native("x86_64-amx", "amx", "the same, and products of whole matrices"),
    Platform {
        name: "i686",
        target: "i686-unknown-linux-gnu",
        machine: Machine::Qemu { debian: "i386", gnu: "i386-linux-gnu", qemu: "i386", cpu: "max" },
        why: "32-bit addresses, x87 beside SSE2",
        kernels: &[],
    },
    aarch64("aarch64-a57", "cortex-a57", &["neon"], "Jetson TX2, first Nano: neither dotprod nor i8mm"),
    aarch64("aarch64-a78ae", "cortex-a78ae", &["neon", "dotprod"], "Jetson Orin: dotprod, no i8mm"),
    aarch64("aarch64-max", "max", &["neon", "dotprod", "i8mm"], "dotprod, i8mm, SVE2"),
    Platform {
        name: "armv7",
        target: "armv7-unknown-linux-gnueabihf",
        machine: Machine::Qemu { debian: "armhf", gnu: "arm-linux-gnueabihf", qemu: "arm", cpu: "max" },
        why: "32-bit addresses",
        kernels: &[],
    },
    Platform {
        name: "riscv64",
        target: "riscv64gc-unknown-linux-gnu",
        machine: Machine::Qemu { debian: "riscv64", gnu: "riscv64-linux-gnu", qemu: "riscv64", cpu: "max" },
        why: "no kernels of its own",
        kernels: &[],
    },
    Platform {
        name: "s390x",
        target: "s390x-unknown-linux-gnu",
        machine: Machine::Qemu { debian: "s390x", gnu: "s390x-linux-gnu", qemu: "s390x", cpu: "max" },
        why: "big-endian",
        kernels: &[],
    },
    Platform {
        name: "wasm32",
        target: "wasm32-wasip1",
        machine: Machine::Wasmtime,
        why: "32-bit addresses, no threads, no memory mapping",
        kernels: &[],
    },
];

impl Platform {
    /// Whether a name is the platform's own or that of its family.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.split('-').next() == Some(name)
    }

    /// Name of its program `mlic-conform`.
    #[must_use]
    pub const fn program(&self) -> &'static str {
        match self.machine {
            Machine::Wasmtime => "mlic-conform.wasm",
            _ => "mlic-conform",
        }
    }
}

/// All names, for messages.
#[must_use]
pub fn names() -> String {
    PLATFORMS.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}
