// Packages, in the order that they need each other. Modules are found by their names, one a file.
aes/aes_pkg.sv
gcm/gcm_pkg.sv
esp/esp_pkg.sv
inbound/replay_pkg.sv
inbound/spi_pkg.sv
sa/selector_pkg.sv
sa/sa_pkg.sv
sa/control_pkg.sv
esp/reason_pkg.sv
esp/engine_pkg.sv
outbound/checksum_pkg.sv
outbound/outbound_pkg.sv
regs/esp_engine_regs_pkg.sv
inbound/inbound_pkg.sv
