/* A libcuda.so.1 for machines without a GPU. It says yes to everything, runs nothing, and writes down what was launched,
 * so that a test can read what the host would have told a GPU, and how long saying it took.
 *
 *     cc -shared -fPIC -o libcuda.so.1 libcuda.c
 *
 * Every entry point that is not written out here succeeds and changes nothing. STUB_CAPABILITY (90) is the compute
 * capability, STUB_CAPTURING=1 makes every stream one that is being captured,
 * STUB_VERSION is the CUDA version that the driver supports.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define MOST_LAUNCHES 64
#define MOST_ARGUMENTS 32

enum { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76 };

/* The arguments are 8 bytes each, as the host sends them; how many there are the test knows. */
struct launch {
    char kernel[128];
    uint32_t grid[3], block[3], shared_bytes;
    uint64_t stream;
    uint64_t arguments[MOST_ARGUMENTS];
};

struct kernel {
    char name[128];
};

static struct launch launches[MOST_LAUNCHES];
static uint64_t launch_count, load_count;
static int arguments_to_copy;
static int a_context;

/* what tests ask */
API uint64_t stub_launch_count(void) { return launch_count; }
API uint64_t stub_load_count(void) { return load_count; }
API struct launch *stub_launch(uint64_t i) { return &launches[i % MOST_LAUNCHES]; }
API void stub_copy_arguments(int count) { arguments_to_copy = count; }

static int from_environment(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

/* what the host asks */
API int cuInit(unsigned flags) { return 0; }
API int cuDriverGetVersion(int *version) { *version = from_environment("STUB_VERSION", 13000); return 0; }
API int cuDeviceGetCount(int *count) { *count = 2; return 0; }
API int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
API int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = from_environment("STUB_CAPABILITY", 90);
    *value = attribute == COMPUTE_CAPABILITY_MAJOR ? capability / 10
           : attribute == COMPUTE_CAPABILITY_MINOR ? capability % 10
                                                   : 1;
    return 0;
}
API int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &a_context; return 0; }
API int cuCtxGetCurrent(void **context) { *context = &a_context; return 0; }
API int cuCtxGetDevice(int *device) { *device = 0; return 0; }
API int cuStreamIsCapturing(void *stream, int *status) { *status = from_environment("STUB_CAPTURING", 0); return 0; }
API int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned n, void *c, void *d, unsigned m) {
    load_count++;
    *library = malloc(8);
    return 0;
}
API int cuLibraryGetKernel(void **kernel, void *library, const char *name) {
    struct kernel *found = calloc(1, sizeof *found);
    strncpy(found->name, name, sizeof found->name - 1);
    *kernel = found;
    return 0;
}
/* what the CUDA runtime, and so PyTorch, begins with: it then finds no GPU, and leaves this driver alone */
API int cuGetExportTable(void **table, void *id) { return 1; }
API int cuGetErrorName(int error, const char **name) { *name = "STUB"; return 0; }
API int cuGetErrorString(int error, const char **text) { *text = "the stub driver failed"; return 0; }

static int record(void *kernel, const uint32_t grid[3], const uint32_t block[3], uint32_t shared, void *stream, void **parameters) {
    struct launch *launch = &launches[launch_count++ % MOST_LAUNCHES];
    memcpy(launch->kernel, ((struct kernel *)kernel)->name, sizeof launch->kernel);
    memcpy(launch->grid, grid, sizeof launch->grid);
    memcpy(launch->block, block, sizeof launch->block);
    launch->shared_bytes = shared;
    launch->stream = (uintptr_t)stream;
    for (int i = 0; i < arguments_to_copy && i < MOST_ARGUMENTS; i++)
        memcpy(&launch->arguments[i], parameters[i], 8);
    return 0;
}

API int cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, void *stream, void **parameters, void **extra) {
    return record(kernel, (uint32_t[]){gx, gy, gz}, (uint32_t[]){bx, by, bz}, shared, stream, parameters);
}

/* CUlaunchConfig begins with the seven sizes and the stream */
struct config { uint32_t grid[3], block[3], shared; void *stream; };
API int cuLaunchKernelEx(const struct config *config, void *kernel, void **parameters, void **extra) {
    return record(kernel, config->grid, config->block, config->shared, config->stream, parameters);
}

static int succeed(void) { return 0; }

API int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    static const char *suffixes[] = {"_v2", "", "_v3"};
    static void *self;
    if (!self) {
        Dl_info here;
        dladdr((void *)cuInit, &here);
        self = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }
    if (status) *status = 0;
    *function = NULL;
    for (int i = 0; i < 3 && !*function; i++) {
        char full[128];
        snprintf(full, sizeof full, "%s%s", name, suffixes[i]);
        *function = dlsym(self, full);
    }
    if (!*function) {
        if (getenv("STUB_TRACE")) fprintf(stderr, "stub driver: %s succeeds and does nothing\n", name);
        *function = (void *)succeed;
    }
    return 0;
}
API int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
