// What happens to a tile of attention between its matrix products, in one pass over it; see kernel.py.

#include <cstdlib>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

// One query row of one target: g is dA on entry, the gradient of the scores on exit.
FOR_EVERY_PROCESSOR
static void row(float* g, const float* a, float relevance, float* sums, long n, int wanted) {
    float whole = 0;
#pragma omp simd reduction(+ : whole)
    for (long j = 0; j < n; ++j) {
        const float product = g[j] * a[j];
        whole += product;
        sums[j] += relevance * (product < 0 ? 0 : product);  // NaN stays what it is
        g[j] = product;
    }
    if (!wanted) return;
#pragma omp simd
    for (long j = 0; j < n; ++j) g[j] -= a[j] * whole;
}

// g [m, targets, n], a [m, n], relevance [targets, m] and added [targets, n] with strides of their rows.
// Sums of threads are added in their order, so that a result does not depend on which was first.
extern "C" int captum_ultra_tile(float* g, const float* a, const float* relevance, long relevance_stride, float* added,
                                 long added_stride, long m, long targets, long n, int wanted, int threads) {
    float* sums = static_cast<float*>(std::calloc(static_cast<size_t>(threads) * targets * n, sizeof(float)));
    if (sums == nullptr) return 1;
#pragma omp parallel num_threads(threads)
    {
#ifdef _OPENMP
        const long thread = omp_get_thread_num(), count = omp_get_num_threads();
#else
        const long thread = 0, count = 1;
#endif
        const long first = m * thread / count, last = m * (thread + 1) / count;
        for (long t = 0; t < targets; ++t)
            for (long i = first; i < last; ++i)
                row(g + (i * targets + t) * n, a + i * n, relevance[t * relevance_stride + i],
                    sums + (thread * targets + t) * n, n, wanted);
    }
    for (long thread = 0; thread < threads; ++thread)
        for (long t = 0; t < targets; ++t)
            for (long j = 0; j < n; ++j) added[t * added_stride + j] += sums[(thread * targets + t) * n + j];
    std::free(sums);
    return 0;
}
