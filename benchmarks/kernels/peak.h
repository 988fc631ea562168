// The multiply-add peak of one core.
#pragma once

// Multiply-adds of float32 a second, measured for about `seconds`, with the widest vectors this processor has.
double measured_peak_macs_per_s(double seconds);
