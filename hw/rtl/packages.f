// Packages, in the order that they need each other. Modules are found by their names, one a file.
aes/aes_pkg.sv
gcm/gcm_pkg.sv
esp/esp_pkg.sv
