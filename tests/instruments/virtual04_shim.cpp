/* LD_PRELOAD shim: libcamera 0.4's virtual pipeline hands buffers back without writing their metadata, the status not
 * initialised even, so a program has to take them for broken. This fills it in; later versions do so themselves.
 * Not for other pipelines: it overwrites what they wrote.
 *
 *   c++ -std=c++17 -O2 -shared -fPIC -I/usr/include/libcamera -o virtual04_shim.so virtual04_shim.cpp
 */
#include <dlfcn.h>
#include <time.h>

#include <libcamera/framebuffer.h>

namespace libcamera {

/* Internal to the library, so its headers do not have it; all that is needed of it is this name. */
class PipelineHandler
{
public:
	bool completeBuffer(Request *request, FrameBuffer *buffer);
};

bool PipelineHandler::completeBuffer(Request *request, FrameBuffer *buffer)
{
	using Real = bool (*)(PipelineHandler *, Request *, FrameBuffer *);
	static const auto real = reinterpret_cast<Real>(
		dlsym(RTLD_NEXT, "_ZN9libcamera15PipelineHandler14completeBufferEPNS_7RequestEPNS_11FrameBufferE"));
	static unsigned int sequence;

	auto &metadata = const_cast<FrameMetadata &>(buffer->metadata());
	timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	metadata.status = FrameMetadata::FrameSuccess;
	metadata.sequence = sequence++;
	metadata.timestamp = now.tv_sec * 1000000000ull + now.tv_nsec;
	for (size_t i = 0; i < metadata.planes().size() && i < buffer->planes().size(); i++)
		metadata.planes()[i].bytesused = buffer->planes()[i].length;
	return real(this, request, buffer);
}

} /* namespace libcamera */
