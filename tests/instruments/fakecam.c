/* fakecam: LD_PRELOAD shim that makes /dev/video0 a V4L2 MJPEG camera.
 *
 *   FAKECAM_DIR   folder with *.jpg, see benches/streams/frames.rs      required
 *   FAKECAM_FPS   frames per second                                  30
 *   FAKECAM_DEV   path to fake                                       /dev/video0
 *   FAKECAM_LOG   set: say on stderr what is opened and not known
 *
 *   cc -O2 -shared -fPIC -o fakecam.so fakecam.c -lpthread
 *   LD_PRELOAD=$PWD/fakecam.so FAKECAM_DIR=... server ...
 *
 * The descriptor handed out is a timerfd, so poll/select/epoll/blocking DQBUF
 * work through the real kernel.  Frames come at absolute times t0 + k/fps; each
 * is stamped with that nominal time (not with the moment the server got round
 * to fetching it), so a client sees the server's own scheduling delay as
 * latency.  A server that comes late gets the newest frame only; the sequence
 * number jumps.  While no buffer is queued the timer is off, as a driver
 * without buffers has nothing to signal.
 *
 * Only the dynamic symbols of libc are interposed: a static binary, or one that
 * makes raw system calls, goes past it.
 *
 * Cost charged to the server per captured frame: one timerfd read and one copy
 * of the JPEG into the mmap buffer (a real driver does the copy in the kernel).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* The declarations of some of these differ between libc versions. */
#define EXPORT __attribute__((visibility("default")))

#define MAXBUF 32
#define MAXFD 1024
#define STAMP_AT 28 /* 16 hex digits, then 10 decimal digits */

struct jpg { unsigned char *p; size_t n; };
static struct { struct jpg *f; unsigned n; unsigned w, h; size_t bufsz; } S; /* frame set */
static uint64_t period = 33333333;
static const char *devpath = "/dev/video0";
static int logging, ready;
static pthread_once_t once = PTHREAD_ONCE_INIT;

struct cam {
	pthread_mutex_t mu;
	int memfd; unsigned char *mem; unsigned nbuf;
	int fifo[MAXBUF]; unsigned head, count; /* queued, empty buffers */
	uint32_t flags[MAXBUF];
	int on, armed;
	uint64_t t0, k;                         /* start; last tick delivered or passed */
	int nonblock;
};
static struct cam *cams[MAXFD];

static void say(const char *f, ...) {
	if (!logging) return;
	char b[256]; va_list a; va_start(a, f);
	int n = vsnprintf(b, sizeof b, f, a); va_end(a);
	if (n > 0) syscall(SYS_write, 2, b, (size_t)(n < 255 ? n : 255));
}

static uint64_t now(void) {
	struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static int isjpg(const struct dirent *d) {
	size_t n = strlen(d->d_name);
	return n > 4 && !strcmp(d->d_name + n - 4, ".jpg");
}

static void load(void) {
	const char *e;
	logging = getenv("FAKECAM_LOG") != NULL;
	if ((e = getenv("FAKECAM_FPS")) && atof(e) > 0) period = (uint64_t)(1e9 / atof(e));
	const char *dir = getenv("FAKECAM_DIR");
	struct dirent **l; int n = dir ? scandir(dir, &l, isjpg, alphasort) : -1;
	if (n <= 0) { fprintf(stderr, "fakecam: no frames in FAKECAM_DIR\n"); return; }
	S.f = calloc((size_t)n, sizeof *S.f);
	for (int i = 0; i < n; i++) {
		char p[4096]; snprintf(p, sizeof p, "%s/%s", dir, l[i]->d_name);
		FILE *f = fopen(p, "rb"); if (!f) continue;
		struct stat st; fstat(fileno(f), &st);
		struct jpg j = { malloc((size_t)st.st_size), (size_t)st.st_size };
		if (fread(j.p, 1, j.n, f) == j.n && j.n > 64) S.f[S.n++] = j;
		fclose(f); free(l[i]);
	}
	free(l);
	struct jpg j = S.f[0];
	for (size_t i = 2; i + 9 < j.n && j.p[i] == 0xff;) { /* SOF0..2 */
		if (j.p[i + 1] >= 0xc0 && j.p[i + 1] <= 0xc2) {
			S.h = j.p[i + 5] << 8 | j.p[i + 6]; S.w = j.p[i + 7] << 8 | j.p[i + 8]; break;
		}
		i += 2u + (j.p[i + 2] << 8 | j.p[i + 3]);
	}
	S.bufsz = ((size_t)S.w * S.h * 2 + 4095) & ~(size_t)4095;
	ready = S.w && S.h;
	say("fakecam: %u frames of %ux%u, period %llu ns\n", S.n, S.w, S.h, (unsigned long long)period);
}

static int ours(const char *p) { /* cheap test first: called for every open() */
	if (!p) return 0;
	static const char *d;
	if (!d) { const char *e = getenv("FAKECAM_DEV"); d = devpath = e ? e : devpath; }
	return !strcmp(p, d);
}

static struct cam *cam(int fd) { return fd >= 0 && fd < MAXFD ? cams[fd] : NULL; }

static int cam_open(int flags) {
	pthread_once(&once, load);
	if (!ready) { errno = ENOENT; return -1; }
	int fd = timerfd_create(CLOCK_MONOTONIC,
		(flags & O_NONBLOCK ? TFD_NONBLOCK : 0) | (flags & O_CLOEXEC ? TFD_CLOEXEC : 0));
	if (fd < 0) return -1;
	if (fd >= MAXFD) { syscall(SYS_close, fd); errno = EMFILE; return -1; }
	struct cam *c = calloc(1, sizeof *c);
	pthread_mutex_init(&c->mu, NULL);
	c->memfd = -1; c->nonblock = !!(flags & O_NONBLOCK);
	cams[fd] = c;
	say("fakecam: opened as fd %d\n", fd);
	return fd;
}

static void set_timer(int fd, struct cam *c, int on) {
	struct itimerspec t = {0};
	if (on) {
		uint64_t n = now(), k = n > c->t0 ? (n - c->t0) / period : 0; /* ticks already past */
		if (k > c->k) c->k = k;
		uint64_t at = c->t0 + (c->k + 1) * period;
		t.it_value.tv_sec = (time_t)(at / 1000000000u); t.it_value.tv_nsec = (long)(at % 1000000000u);
		t.it_interval.tv_sec = (time_t)(period / 1000000000u); t.it_interval.tv_nsec = (long)(period % 1000000000u);
	}
	timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, NULL);
	c->armed = on;
}

static void stamp(unsigned char *p, size_t n, uint64_t ts, uint64_t seq) {
	static const char hex[] = "0123456789abcdef";
	if (n < 54 || memcmp(p + 24, "MJTS", 4)) return;
	for (int i = 15; i >= 0; i--, ts >>= 4) p[STAMP_AT + i] = (unsigned char)hex[ts & 15];
	for (int i = 9; i >= 0; i--, seq /= 10) p[STAMP_AT + 16 + i] = (unsigned char)('0' + seq % 10);
}

static void drop_bufs(struct cam *c) {
	if (c->mem) munmap(c->mem, c->nbuf * S.bufsz);
	if (c->memfd >= 0) syscall(SYS_close, c->memfd);
	c->mem = NULL; c->memfd = -1; c->nbuf = c->head = c->count = 0;
}

static void fill(struct v4l2_buffer *b, struct cam *c, unsigned i) {
	b->index = i; b->memory = V4L2_MEMORY_MMAP; b->length = (uint32_t)S.bufsz;
	b->m.offset = (uint32_t)(i * S.bufsz);
	b->flags = c->flags[i] | V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
	b->field = V4L2_FIELD_NONE;
}

static int dqbuf(int fd, struct cam *c, struct v4l2_buffer *b) {
	if (b->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || !c->on) return EINVAL;
	uint64_t ticks = 0;
	for (;;) { /* blocks outside the lock, so that another thread can QBUF */
		if (syscall(SYS_read, fd, &ticks, 8) == 8) break;
		if (errno != EINTR || c->nonblock) return errno;
	}
	pthread_mutex_lock(&c->mu);
	if (!c->count) { pthread_mutex_unlock(&c->mu); return EAGAIN; }
	c->k += ticks;
	unsigned i = (unsigned)c->fifo[c->head]; c->head = (c->head + 1) % MAXBUF; c->count--;
	struct jpg j = S.f[c->k % S.n];
	unsigned char *p = c->mem + i * S.bufsz;
	uint64_t ts = c->t0 + c->k * period;
	memcpy(p, j.p, j.n); stamp(p, j.n, ts, c->k);
	c->flags[i] = V4L2_BUF_FLAG_MAPPED;
	fill(b, c, i);
	b->bytesused = (uint32_t)j.n; b->sequence = (uint32_t)c->k;
	b->timestamp.tv_sec = (time_t)(ts / 1000000000u); b->timestamp.tv_usec = (long)(ts % 1000000000u / 1000);
	if (!c->count) set_timer(fd, c, 0);
	pthread_mutex_unlock(&c->mu);
	return 0;
}

static void pixfmt(struct v4l2_pix_format *p) {
	memset(p, 0, sizeof *p);
	p->width = S.w; p->height = S.h; p->pixelformat = V4L2_PIX_FMT_MJPEG; p->field = V4L2_FIELD_NONE;
	p->sizeimage = (uint32_t)S.bufsz; p->colorspace = V4L2_COLORSPACE_JPEG;
}

static void fract(struct v4l2_fract *f) {
	f->numerator = 1; f->denominator = (uint32_t)(1e9 / (double)period + 0.5);
}

#define CAP (V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_EXT_PIX_FORMAT)
static int isvid(uint32_t t) { return t == V4L2_BUF_TYPE_VIDEO_CAPTURE; }

/* Returns 0 or an errno. */
static int v4l2(int fd, struct cam *c, unsigned long rq, void *a) {
	switch ((uint32_t)rq) {
	case VIDIOC_QUERYCAP: {
		struct v4l2_capability *q = a; memset(q, 0, sizeof *q);
		strcpy((char *)q->driver, "fakecam"); strcpy((char *)q->card, "Fake MJPEG camera");
		strcpy((char *)q->bus_info, "usb-fake-1"); q->version = 6 << 16;
		q->capabilities = CAP | V4L2_CAP_DEVICE_CAPS; q->device_caps = CAP; return 0; }
	case VIDIOC_ENUM_FMT: {
		struct v4l2_fmtdesc *f = a; if (f->index || !isvid(f->type)) return EINVAL;
		f->flags = V4L2_FMT_FLAG_COMPRESSED; strcpy((char *)f->description, "Motion-JPEG");
		f->pixelformat = V4L2_PIX_FMT_MJPEG; return 0; }
	case VIDIOC_ENUM_FRAMESIZES: {
		struct v4l2_frmsizeenum *f = a; if (f->index || f->pixel_format != V4L2_PIX_FMT_MJPEG) return EINVAL;
		f->type = V4L2_FRMSIZE_TYPE_DISCRETE; f->discrete.width = S.w; f->discrete.height = S.h; return 0; }
	case VIDIOC_ENUM_FRAMEINTERVALS: {
		struct v4l2_frmivalenum *f = a;
		if (f->index || f->pixel_format != V4L2_PIX_FMT_MJPEG || f->width != S.w || f->height != S.h) return EINVAL;
		f->type = V4L2_FRMIVAL_TYPE_DISCRETE; fract(&f->discrete); return 0; }
	case VIDIOC_G_FMT: case VIDIOC_S_FMT: case VIDIOC_TRY_FMT: {
		struct v4l2_format *f = a; if (!isvid(f->type)) return EINVAL;
		if ((uint32_t)rq == VIDIOC_S_FMT && c->nbuf) return EBUSY;
		pixfmt(&f->fmt.pix); return 0; }
	case VIDIOC_G_PARM: case VIDIOC_S_PARM: {
		struct v4l2_streamparm *p = a; if (!isvid(p->type)) return EINVAL;
		memset(&p->parm, 0, sizeof p->parm);
		p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME; fract(&p->parm.capture.timeperframe);
		p->parm.capture.readbuffers = 2; return 0; }
	case VIDIOC_ENUMINPUT: {
		struct v4l2_input *i = a; if (i->index) return EINVAL;
		memset(i, 0, sizeof *i); strcpy((char *)i->name, "Camera 1"); i->type = V4L2_INPUT_TYPE_CAMERA; return 0; }
	case VIDIOC_G_INPUT: *(int *)a = 0; return 0;
	case VIDIOC_S_INPUT: return *(int *)a ? EINVAL : 0;
	case VIDIOC_REQBUFS: {
		struct v4l2_requestbuffers *r = a;
		if (!isvid(r->type) || r->memory != V4L2_MEMORY_MMAP) return EINVAL;
		if (c->on) return EBUSY;
		drop_bufs(c);
		if (!r->count) return 0;
		if (r->count > MAXBUF) r->count = MAXBUF;
		if (r->count < 2) r->count = 2;
		r->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP;
		c->memfd = memfd_create("fakecam", MFD_CLOEXEC);
		if (c->memfd < 0 || ftruncate(c->memfd, (off_t)(r->count * S.bufsz))) return ENOMEM;
		c->mem = (unsigned char *)syscall(SYS_mmap, NULL, r->count * S.bufsz, PROT_READ | PROT_WRITE, MAP_SHARED, c->memfd, 0L);
		if (c->mem == MAP_FAILED) { c->mem = NULL; return ENOMEM; }
		c->nbuf = r->count; memset(c->flags, 0, sizeof c->flags); return 0; }
	case VIDIOC_QUERYBUF: {
		struct v4l2_buffer *b = a; if (!isvid(b->type) || b->index >= c->nbuf) return EINVAL;
		fill(b, c, b->index); return 0; }
	case VIDIOC_QBUF: {
		struct v4l2_buffer *b = a;
		if (!isvid(b->type) || b->memory != V4L2_MEMORY_MMAP || b->index >= c->nbuf) return EINVAL;
		pthread_mutex_lock(&c->mu);
		if (c->flags[b->index] & V4L2_BUF_FLAG_QUEUED) { pthread_mutex_unlock(&c->mu); return EINVAL; }
		c->flags[b->index] = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_QUEUED; b->flags = c->flags[b->index];
		c->fifo[(c->head + c->count++) % MAXBUF] = (int)b->index;
		if (c->on && !c->armed) set_timer(fd, c, 1);
		pthread_mutex_unlock(&c->mu); return 0; }
	case VIDIOC_DQBUF: return dqbuf(fd, c, a);
	case VIDIOC_STREAMON:
		if (!isvid(*(uint32_t *)a)) return EINVAL;
		pthread_mutex_lock(&c->mu);
		if (!c->on) { c->on = 1; c->t0 = now(); c->k = 0; if (c->count) set_timer(fd, c, 1); }
		pthread_mutex_unlock(&c->mu); return 0;
	case VIDIOC_STREAMOFF:
		pthread_mutex_lock(&c->mu);
		c->on = 0; set_timer(fd, c, 0); c->head = c->count = 0; memset(c->flags, 0, sizeof c->flags);
		pthread_mutex_unlock(&c->mu); return 0;
	case VIDIOC_EXPBUF: case VIDIOC_QUERYCTRL: case VIDIOC_QUERYMENU: case VIDIOC_QUERY_EXT_CTRL:
	case VIDIOC_G_CTRL: case VIDIOC_S_CTRL: case VIDIOC_G_EXT_CTRLS: case VIDIOC_S_EXT_CTRLS:
	case VIDIOC_SUBSCRIBE_EVENT: return EINVAL;
	default: say("fakecam: unknown ioctl %#lx\n", rq); return ENOTTY;
	}
}

EXPORT int ioctl(int fd, unsigned long rq, ...) {
	va_list v; va_start(v, rq); void *a = va_arg(v, void *); va_end(v);
	struct cam *c = cam(fd);
	if (!c) return (int)syscall(SYS_ioctl, fd, rq, a);
	int e = v4l2(fd, c, rq, a);
	if (e) { errno = e; return -1; }
	return 0;
}

#define OPEN(name) \
EXPORT int name(const char *p, int fl, ...) { \
	va_list v; va_start(v, fl); int m = fl & (O_CREAT | __O_TMPFILE) ? va_arg(v, int) : 0; va_end(v); \
	return ours(p) ? cam_open(fl) : (int)syscall(SYS_openat, AT_FDCWD, p, fl, m); }
OPEN(open) OPEN(open64)
#define OPENAT(name) \
EXPORT int name(int d, const char *p, int fl, ...) { \
	va_list v; va_start(v, fl); int m = fl & (O_CREAT | __O_TMPFILE) ? va_arg(v, int) : 0; va_end(v); \
	return ours(p) ? cam_open(fl) : (int)syscall(SYS_openat, d, p, fl, m); }
OPENAT(openat) OPENAT(openat64)
EXPORT int __open_2(const char *p, int fl) { return open(p, fl); }
EXPORT int __open64_2(const char *p, int fl) { return open(p, fl); }

EXPORT int access(const char *p, int m) {
	return ours(p) ? 0 : (int)syscall(SYS_faccessat, AT_FDCWD, p, m);
}

#define STAT(name, T, real) \
EXPORT int name(const char *p, struct T *s) { \
	if (!ours(p)) return real; \
	memset(s, 0, sizeof *s); s->st_mode = S_IFCHR | 0660; s->st_rdev = makedev(81, 0); s->st_nlink = 1; return 0; }
STAT(stat, stat, fstatat(AT_FDCWD, p, s, 0))
STAT(stat64, stat64, fstatat64(AT_FDCWD, p, s, 0))

EXPORT int close(int fd) {
	struct cam *c = cam(fd);
	if (c) { cams[fd] = NULL; drop_bufs(c); free(c); say("fakecam: closed fd %d\n", fd); }
	return (int)syscall(SYS_close, fd);
}

/* glibc's own allocator does not come through here; others do, and early. */
EXPORT void *mmap(void *at, size_t n, int prot, int fl, int fd, off_t off) {
	struct cam *c = fl & MAP_ANONYMOUS ? NULL : cam(fd);
	return (void *)syscall(SYS_mmap, at, n, prot, fl, c ? c->memfd : fd, off);
}
EXPORT void *mmap64(void *at, size_t n, int prot, int fl, int fd, off64_t off) { return mmap(at, n, prot, fl, fd, off); }

/* The path need not exist, so resolving it has to be faked too. */
EXPORT char *realpath(const char *p, char *out) {
	if (ours(p)) return out ? strcpy(out, p) : strdup(p);
	static char *(*real)(const char *, char *);
	if (!real) real = (char *(*)(const char *, char *))dlsym(RTLD_NEXT, "realpath");
	return real(p, out);
}
EXPORT char *__realpath_chk(const char *p, char *out, size_t n) { (void)n; return realpath(p, out); }
