"""CubeCL's CUDA C++ -> C++ for the CPU -> shared object. usage: exec.py IN.cu OUT.so INCLUDE

`exec.py --flags` prints the compiler's flags, which exec.h is precompiled with."""
import os, pathlib, re, subprocess, sys
FLAGS = [
    "-std=c++17", "-O2", "-march=native", "-fno-strict-aliasing", "-ffp-contract=fast", "-w", "-fPIC",
    # A misaligned access traps; the driver reports it.
    "-fsanitize=alignment", "-fsanitize-undefined-trap-on-error",
]
if sys.argv[1:] == ["--flags"]:
    print(*FLAGS)
    sys.exit()
src, out, include = sys.argv[1:4]
text = pathlib.Path(src).read_text()
here = pathlib.Path(__file__).resolve().parent
plain = text.replace("} CUtensorMap;", "").replace("#include <cooperative_groups", "")
bad = [w for w in ["cooperative_groups::", "CUtensorMap ", "cp.async.bulk", "arrive_tx", "expect_tx", "elect.sync"] if w in plain]
if bad: sys.exit(f"not executable: {bad}")
text = re.sub(r"^typedef (un)?signed (long long int|int|char|short) u?int\d+_t;\n", "", text, flags=re.M)
text = re.sub(r"^typedef unsigned (int|char|short) uint\d+_t;\n", "", text, flags=re.M)
text = re.sub(r"#include <[^>]*>\s*\n?", "", text)
text = re.sub(r"extern\s+__shared__\s+__align__\(\d+\)\s+char\s+(\w+)\[\];", r"char* const \1 = mock_smem;", text)
text = text.replace("CUtensorMap_st {", "CUtensorMap_st {")
T = {"f32": "float", "u32": "unsigned", "s32": "int", "u64": "unsigned long long", "s64": "long long", "f64": "double", "b32": "unsigned", "b64": "unsigned long long"}
def find_operands(part):
    return re.findall(r'"[=+]?(\w)"\(((?:[^()]|\([^()]*\))*)\)', part)
def translate_asm(m):
    ptx, outs, ins = m.group(1), find_operands(m.group(2) or ""), find_operands(m.group(3) or "")
    regs = [v for _, v in outs + ins]
    ptx = ptx.replace("\\n", "\n").replace("\\t", " ").strip()
    a = re.match(r"atom\.relaxed\.(?:\w+\.)*?(add|min|max|and|or|xor|exch|cas)(?:\.noftz)?\.(\w+) %0, \[%1\], %2(?:, %3)?;$", ptx)
    if a and a.group(2) in T:
        op, ty = a.groups()
        more = "".join(f", ({T[ty]})({r})" for r in regs[2:])
        return f"{regs[0]} = mock_atom_{op}<{T[ty]}>({regs[1]}{more});"
    a = re.match(r"atom\.relaxed\.add\.noftz\.(f16|f16x2) %0, \[%1\], %2;$", ptx)
    if a:
        ty = {"f16": "__half", "f16x2": "__half2"}[a.group(1)]
        return f"{{ {ty} v_; memcpy(&v_, &{regs[2]}, sizeof v_); {ty} o_ = mock_atom_add<{ty}>({regs[1]}, v_); memcpy((void*)&{regs[0]}, &o_, sizeof o_); }}"
    a = re.match(r"mma\.sync\.aligned\.m16n8k(8|16)\.row\.col\.f32\.(f16|bf16|tf32)\.\w+\.f32 ", ptx)
    if a:
        k, ty = int(a.group(1)), {"f16": "__half", "bf16": "__nv_bfloat16", "tf32": "MockTf32"}[a.group(2)]
        na = k // 2 if ty == "MockTf32" else k // 4
        nb = na // 2
        assert len(regs) == 8 + na + nb, (ptx, regs)
        bits = lambda vs: ", ".join(f"mock_bits({v})" for v in vs)
        return f"{{ unsigned a_[] = {{{bits(regs[4:4 + na])}}}, b_[] = {{{bits(regs[4 + na:4 + na + nb])}}}; float c_[] = {{{', '.join(regs[4 + na + nb:])}}}, d_[4]; mock_mma<{ty}, {k}>(d_, a_, b_, c_); " + " ".join(f"{r} = d_[{i}];" for i, r in enumerate(regs[:4])) + " }"
    a = re.match(r"ldmatrix\.sync\.aligned\.m8n8\.x(\d)(\.trans)?\.shared::cta\.b16 ", ptx)
    if a:
        n = int(a.group(1))
        return f"{{ unsigned o_[{n}]; mock_ldmatrix<{n}, {'true' if a.group(2) else 'false'}>(o_, {regs[n]}); " + " ".join(f"{r} = o_[{i}];" for i, r in enumerate(regs[:n])) + " }"
    a = re.match(r"cp\.async\.c[ag]\.shared::cta\.global \[%0\], \[%1\], (\d+), (\S+);$", ptx)
    if a:
        source_size = a.group(2) if a.group(2).isdigit() else regs[int(a.group(2)[1:])]
        return f"mock_cp_async({regs[0]}, (unsigned long long)({regs[1]}), {a.group(1)}, {source_size});"
    a = re.match(r"(min|max)\.NaN\.f32 %0, %1, %2;$", ptx)
    if a:
        o, x, y = regs
        return f"{o} = isnan({x}) ? {x} : isnan({y}) ? {y} : f{a.group(1)}f({x}, {y});"
    if ptx.startswith("cp.async.mbarrier.arrive.shared::cta.b64"):
        return ";"
    raise SystemExit("not executable: asm " + ptx)
text = re.sub(r'asm\s*(?:volatile)?\s*\("((?:[^"\\]|\\.)*)"\s*:\s*([^:;]*?):\s*([^:;]*?)(?::[^;]*)?\);', translate_asm, text)
name = re.search(r'extern "C" __global__ void\s+(?:__launch_bounds__\(\d+\))?\s*(?:__cluster_dims__\([^)]*\))?\s*(\w+)\(', text).group(1)
syncs = bool(re.search(r"__syncthreads|__syncwarp|_sync\(|wmma::", text))
text = f'#include "{here}/exec.h"\n' + text + f'\nextern "C" void mock_launch(void **p, const unsigned *g, const unsigned *b, char *shared, unsigned smem) {{ mock_grid<decltype(&{name}), &{name}>(p, g, b, shared, smem, {str(syncs).lower()}); }}\n'
cpp = pathlib.Path(out).with_suffix(f".{os.getpid()}.cpp")
cpp.write_text(text)
library = cpp.with_suffix(".so")
# Unrolled kernels of 20,000 lines take minutes with -O2.
level = ["-O1"] if len(text) > 300_000 else []
done = subprocess.run(["g++", *FLAGS, *level, "-shared", f"-I{include}", "-o", library, cpp], stderr=subprocess.PIPE, text=True)
cpp.unlink()
if done.returncode: sys.exit("g++: " + done.stderr[:3000])
library.rename(out)
