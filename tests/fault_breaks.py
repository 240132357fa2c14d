"""What `planted_breaks.py` plants: wrong edits of the caches of machine code, and tests that must notice."""

from breaks import Break

CODE_FILES, DISK = "numbactc/kernels/code_files.py", "numbactc/kernels/disk.py"

FAULT_BREAKS = [
    Break(
        "a cache under one name for all versions",
        CODE_FILES,
        "version = source_hash(\"cpu\")",
        'version = "one for all" * 2',
        "test_cache.py",
    ),
    Break(
        "a cache under one name for all versions of Numba",
        CODE_FILES,
        "{version[:16]}.{numba.__version__}",
        "{version[:16]}",
        "test_cache_faults.py -k another_numba",
    ),
    Break(
        "a file of machine code for whatever signature comes last",
        CODE_FILES,
        "{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}",
        "1",
        "test_cache.py -k eight",
    ),
    Break(
        "machine code is run without a look at whose it is",
        CODE_FILES,
        "return code if its_key == key else None",
        "return code",
        "test_cache_faults.py -k another_signature",
    ),
    Break(
        "a folder that takes no more files ends the call",
        CODE_FILES,
        "with suppress(OSError):",
        "with suppress(EOFError):",
        "test_cache_faults.py -k no_longer",
    ),
    Break(
        "what is forgotten stays on disk",
        CODE_FILES,
        "path.unlink(missing_ok=True)",
        "pass",
        "test_cache_faults.py -k forgotten",
    ),
    Break(
        "a damaged file is machine code all the same",
        DISK,
        "if hashlib.sha256(code).digest() == digest:",
        "if True:",
        "test_cache_faults.py test_cuda_launch.py -k damaged",
    ),
    Break(
        "half a file stays on a full disk",
        DISK,
        "            os.unlink(unfinished)",
        "            pass",
        "test_cache_faults.py -k half_files",
    ),
    Break(
        "a folder that cannot be written is an error",
        DISK,
        "    except OSError:\n        return False",
        "    except ValueError:\n        return False",
        "test_cuda_launch.py -k nothing_can_be_written",
    ),
]
