#!/usr/bin/env python3
"""make_eetq.py EETQ.so [TO [RANDOM]]: makes eetq.safetensors and eetq.json with EETQ's own compiled quantizer.

EETQ.so is the extension of EETQ 1.0.0's wheel (cp310, Linux x86-64). Quantizing runs on the CPU, but the library is linked
with torch and CUDA, and asks the GPU for its compute capability: here every symbol it lacks is stubbed, and the answer is
the case's. Each case has the tensors as they are saved, and the SHA-256 of f16(code * scale) from the quantizer's other
output, the codes before they are laid out (-0.0 as +0.0). TO: where to; RANDOM: so many random cases instead of the
listed ones. Needs binutils, gcc, numpy, safetensors.
"""
import ctypes, hashlib, json, os, subprocess, sys, tempfile
import numpy as np
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = [  # K, N, compute capability, dtype of the weights, what is special
    (64, 64, 70, "f2", ""), (64, 64, 75, "f2", ""), (128, 64, 80, "f2", ""), (64, 192, 89, "f2", ""),
    (192, 128, 70, "f2", ""), (256, 64, 86, "f4", ""), (64, 128, 72, "f4", ""), (192, 64, 80, "f2", "zeros"),
    (128, 128, 70, "f2", "zeros"), (128, 64, 80, "i1", ""), (64, 128, 70, "i1", ""), (64, 64, 80, "f2", "constant"),
    (64, 64, 80, "f2", "tiny"),
]


def load(path, folder):
    """The extension, with stubs for what it imports."""
    table = subprocess.run(["readelf", "-Ws", "--dyn-syms", path], capture_output=True, text=True, check=True).stdout
    text = {"c10": [], "cuda": []}
    for line in table.splitlines():
        f = line.split()
        if len(f) < 8 or f[6] != "UND" or f[7].split("@")[0] in ("cudaGetDevice", "cudaDeviceGetAttribute") or \
                "@GLIBC" in f[7] or "@CXXABI" in f[7] or "@GCC" in f[7]:
            continue
        name = f[7].split("@")[0]
        data = f[3] == "OBJECT" or name.startswith("_ZT") or name.endswith("_singletonE")
        stub = ".bss; .globl %s; %s: .zero 4096" if data else ".text; .globl %s; .type %s,@function; %s: xor %%eax,%%eax; ret"
        text["cuda" if "@libcudart" in f[7] else "c10"].append(stub % ((name,) * stub.count("%s")))
    code = ('#include <stdlib.h>\nint cudaGetDevice(int *d) { *d = 0; return 0; }\n'
            'int cudaDeviceGetAttribute(int *v, int a, int d) { int sm = atoi(getenv("SM")); (void)d;'
            ' *v = a == 75 ? sm / 10 : a == 76 ? sm % 10 : 0; return 0; }\n')  # 75, 76: the capability, major and minor
    stack = [".section .note.GNU-stack,\"\",@progbits"]
    for file, body in (("c10.S", text["c10"] + stack), ("cuda.S", text["cuda"] + stack), ("none.c", []), ("cuda.c", [code]),
                       ("map", ["libcudart.so.12 { global: *; };"])):
        with open(f"{folder}/{file}", "w") as out:
            out.write("\n".join(sorted(set(body))) + "\n")
    for lib, sources in (("libc10.so", ["c10.S"]), ("libtorch_cpu.so", ["none.c"]), ("libtorch_python.so", ["none.c"]),
                         ("libc10_cuda.so", ["none.c"]),
                         ("libcudart.so.12", ["cuda.S", "cuda.c", "-Wl,--version-script=map"])):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", lib, f"-Wl,-soname,{lib}"] + sources, cwd=folder, check=True)
        ctypes.CDLL(f"{folder}/{lib}", mode=ctypes.RTLD_GLOBAL | os.RTLD_LAZY)
    return ctypes.CDLL(path, mode=os.RTLD_LAZY)


def quantize(lib, w, sm):
    """w [K, N] -> codes [K, N], the bytes as saved [K, N], scales [N]."""
    os.environ["SM"] = str(sm)
    k, n = w.shape
    codes, saved = np.zeros((k, n), np.int8), np.zeros((k, n), np.int8)
    where = lambda a: ctypes.c_void_p(a.ctypes.data)
    if w.dtype == np.int8:  # codes that are quantized already are only laid out
        lib._ZN17fastertransformer18preprocess_weightsEPaPKammbi(where(saved), where(w), ctypes.c_size_t(k),
                                                                 ctypes.c_size_t(n), False, sm)
        return w, saved, None
    name = {2: "I6__halfS1_EEvPaS2_", 4: "IffEEvPaS1_"}[w.itemsize]
    shape = np.array([k, n], np.uint64)  # a std::vector is three pointers
    vector = np.array([shape.ctypes.data, shape.ctypes.data + 16, shape.ctypes.data + 16], np.uint64)
    scales = np.zeros(n, w.dtype)
    f = getattr(lib, f"_ZN17fastertransformer18symmetric_quantize{name}PT_PKT0_RKSt6vectorImSaImEENS_9QuantTypeE")
    f(where(saved), where(codes), where(scales), where(w), where(vector), 0)
    return codes, saved, scales


def weights(rng, k, n, dtype, special):
    w = rng.standard_normal((k, n)) * 0.05
    if special == "zeros":
        w[:, 1::7] = 0
    if special == "constant":
        w[:, :] = np.where(np.arange(n) % 2, 0.25, -0.25)
    if special == "tiny":
        w *= 1e-6
    if dtype == "i1":  # bitsandbytes' codes
        return np.rint(w / np.maximum(np.abs(w).max(0), 1e-30) * 127).astype(np.int8)
    return np.ascontiguousarray(w.astype("<" + dtype))


def main(path, to=HERE, count=0):
    rng = np.random.default_rng(20261124)
    cases = CASES if not count else [
        (64 * int(rng.integers(1, 7)), 64 * int(rng.integers(1, 7)), int(rng.choice([70, 72, 75, 80, 86, 87, 89])),
         str(rng.choice(["f2", "f4", "i1"])), str(rng.choice(["", "", "zeros", "tiny"]))) for _ in range(count)]
    tensors, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        lib = load(os.path.abspath(path), folder)
        for i, (k, n, sm, dtype, special) in enumerate(cases):
            codes, saved, scales = quantize(lib, weights(rng, k, n, dtype, special), sm)
            if scales is None:
                scales = (rng.random(n) * 0.01).astype("<f2")
            values = (codes.astype("<f4") * scales.astype("<f4")).astype("<f2").astype("<f4").T + np.float32(0)
            name = "case%02d" % i
            tensors[name + ".weight"], tensors[name + ".weight_scales"] = saved, scales
            rows.append({"name": name, "n": n, "k": k, "sm": sm, "special": special,
                         "sha256": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()})
    save_file(tensors, os.path.join(to, "eetq.safetensors"))
    with open(os.path.join(to, "eetq.json"), "w") as f:
        json.dump({"eetq": "1.0.0", "cases": rows}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:3], count=int(sys.argv[3]) if len(sys.argv) > 3 else 0)
