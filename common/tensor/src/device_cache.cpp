// libtorch offers this to C++ only, as virtual functions: no symbol can be looked up for it.
#include <ATen/DeviceAccelerator.h>

#include <cstddef>
#include <cstdio>
#include <exception>

// Gives the memory that libtorch's device allocator keeps for reuse back to the driver. Nothing happens without a GPU.
// On failure returns false and writes libtorch's message, which ends with a zero byte, to `message`.
extern "C" bool videosdgx_empty_device_cache(char *message, std::size_t capacity) noexcept {
    try {
        if (const auto accelerator = at::accelerator::getAccelerator(false)) {
            at::getDeviceAllocator(*accelerator)->emptyCache();
        }
        return true;
    } catch (const std::exception &error) {
        std::snprintf(message, capacity, "%s", error.what());
    } catch (...) {
        std::snprintf(message, capacity, "an unknown exception");
    }
    return false;
}
