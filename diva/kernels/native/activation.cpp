// Activations: DK_RELU .. of elementwise.h, each formula in a line.
#include "diva_kernels.h"
#include "elementwise_loop.h"

namespace dk {
namespace {

#define FUNCTION(name, formula)                                         \
    struct name {                                                       \
        template <class T> static DK_INLINE vec<T> of(const Given<T> &g) { \
            const vec<T> x = g.x, y = g.y, z = g.z, p = g.p, q = g.q, r = g.r; \
            (void)x, (void)y, (void)z, (void)p, (void)q, (void)r;       \
            return formula;                                             \
        }                                                               \
    };

FUNCTION(Relu, (x < T(0) ? vec<T>{} : x))
FUNCTION(Threshold, x <= p ? q : x)
FUNCTION(ThresholdBackward, (x <= p ? vec<T>{} : y))

}  // namespace

template <class T> Entry<T> activation_entry(int f) {
    switch (f) {
        case DK_RELU: return {loop<Relu, 1, T>, cheap};
        case DK_THRESHOLD: return {loop<Threshold, 1, T>, cheap};
        case DK_THRESHOLD_BACKWARD: return {loop<ThresholdBackward, 2, T>, cheap};
        default: return {};
    }
}
template Entry<float> activation_entry<float>(int);
template Entry<double> activation_entry<double>(int);

}  // namespace dk
