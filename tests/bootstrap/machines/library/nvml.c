/* A libnvidia-ml of one A100 with one MIG instance and one process, to try the real nvidia-ml-py against.
   With -DOLDER it lacks what drivers before 510 lack. */
#include <string.h>

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char busId[32]; } pci_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } process_t;

#define BOARD ((void *)1)
#define PART ((void *)2)
enum { OK = 0, NOT_FOUND = 6, TOO_SMALL = 7 };

int nvmlInit_v2(void) { return OK; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int error) { (void)error; return "an error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "580.95.05", size); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
int nvmlSystemGetProcessName(unsigned pid, char *text, unsigned size)
{
    (void)pid;
    strncpy(text, "/usr/bin/python3 serve.py --key hunter2", size);
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **board) { (void)index; *board = BOARD; return OK; }
int nvmlDeviceGetName(void *device, char *text, unsigned size)
{
    strncpy(text, device == PART ? "NVIDIA A100-SXM4-80GB MIG 1g.10gb" : "NVIDIA A100-SXM4-80GB", size);
    return OK;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size)
{
    strncpy(text, device == PART ? "MIG-53864714" : "GPU-9c73eb7b", size);
    return OK;
}
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *pci)
{
    (void)device;
    memset(pci, 0, sizeof *pci);
    strcpy(pci->busId, "00000000:0F:00.0");
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory)
{
    memory->total = (device == PART ? 10ull : 80ull) << 30;
    memory->free = memory->total - (1ull << 30);
    memory->used = 1ull << 30;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    (void)device;
    *major = 8, *minor = 0;
    return OK;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *next) { (void)device; *now = *next = 1; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { (void)device; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **part)
{
    (void)device;
    *part = PART;
    return index == 0 ? OK : NOT_FOUND;
}

#ifdef OLDER
#define COMPUTE nvmlDeviceGetComputeRunningProcesses_v2
#else
#define COMPUTE nvmlDeviceGetComputeRunningProcesses_v3
#endif
int COMPUTE(void *device, unsigned *count, process_t *processes)
{
    unsigned room = *count;
    (void)device;
    *count = 1;
    if (room < 1)
        return TOO_SMALL;
    processes->pid = 42;
    processes->memory = ~0ull; /* not told */
    processes->gpu_instance = processes->compute_instance = 0;
    return OK;
}
